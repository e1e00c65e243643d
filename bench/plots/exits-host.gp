W = 860; H = 560
load 'style.gp'
set title "What one event costs under this host's KVM: median and 95 %  [measured]" offset -12,0
set xlabel "ns per event"
set logscale x
set format x "%.0s%c"
set yrange [*:*] reverse
set offsets 0, 0, 0.6, 0.6
set grid xtics ytics lc rgb '#dddddd' lw 0.7 dt 1
set key below
set bmargin 5.5
plot stem.'.tsv' using "ring0":"row":"lo":"hi":ytic(2) with xerrorbars pt 4 ps 1.3 lc rgb '#666666' title "ring 0", \
     '' using "ring3":"row":"lo":"hi" with xerrorbars pt 7 ps 1.3 lc rgb '#009E73' title "ring 3"
