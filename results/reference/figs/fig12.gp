# Modelled cycles of a page walk under each strategy, random accesses, walk caches and cached table reads of preset dmt-ref; the number on a bar is the references an uncached walk makes one after the other [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig12.gp   (svg, png, pdf or dumb)
stem = 'fig12'
W = 1040; H = 420
load 'style.gp'
set style data histogram
set style histogram clustered gap 1.2
set boxwidth 0.9
set title "Cycles per page walk, random accesses, preset dmt-ref; above each bar its references  [modelled]"
set xlabel "strategy"
set ylabel "cycles per walk"
set yrange [0:*]
set offsets 0, 0, 20, 0
set key top right
set xtics noenhanced font ',10'
plot stem.'.tsv' using "4k":xtic(1) title "4 KiB pages" fs pattern f_ept border lc rgb c_ept lc rgb c_ept, \
     '' using "2m" title "2 MiB pages" fs pattern f_native border lc rgb c_native lc rgb c_native, \
     '' using ($0-0.15):(column("4k")):(sprintf("%g",column("refs4k"))) with labels offset 0,0.6 font ',9' notitle, \
     '' using ($0+0.15):(column("2m")):(sprintf("%g",column("refs2m"))) with labels offset 0,0.6 font ',9' notitle
