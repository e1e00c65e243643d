# Instructions that one event makes a processor run, guest, KVM and Linux together, in an emulated machine without time [measured]
# Redraw: gnuplot -e "fmt='svg'" fig7.gp   (svg, png, pdf or dumb)
stem = 'fig7'
W = 860; H = 560
load 'style.gp'
set title "Instructions per event: guest, KVM and Linux together  [measured]" offset -12,0
set xlabel "instructions per event"
set logscale x
set format x "%.0s%c"
set xrange [0.7:*]
set yrange [*:*] reverse
set offsets 0, 0, 0.6, 0.6
set grid xtics ytics lc rgb '#dddddd' lw 0.7 dt 1
set key below
set bmargin 5.5
plot stem.'.tsv' using "ept":"row":ytic(2) with points pt 6 ps 2 lw 2 lc rgb c_ept title "nested, npt=1", \
     '' using "shadow":"row" with points pt p_shadow ps 1.1 lc rgb c_shadow title "shadow, npt=0"
