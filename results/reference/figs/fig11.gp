# References per access against the share of pages that escape from direct segments: with all of them it is nested paging; a filter of 256 bits makes it that much sooner [exact]
# Redraw: gnuplot -e "fmt='svg'" fig11.gp   (svg, png, pdf or dumb)
stem = 'fig11'
W = 820; H = 440
load 'style.gp'
set title "Random updates of 64 MiB in direct segments  [exact]"
set xlabel "pages of each segment that escape (%)"
set ylabel "references per access"
set xrange [-2:102]
set yrange [0:*]
set offsets 0, 0, graph 0.05, 0
set key outside right center width 1
f = stem.'.tsv'
plot f using "percent":"ept" with lines lc rgb c_ept lw 2 title "ept", \
     f using "percent":"dseg-256" with linespoints lc rgb '#000000' pt 8 dt 3 lw 2 title "dseg, 256-bit filter", \
     f using "percent":"dseg-guest" with linespoints lc rgb '#56B4E9' pt 13 lw 2 title "dseg-guest", \
     f using "percent":"dseg-vmm" with linespoints lc rgb '#CC79A7' pt 11 lw 2 title "dseg-vmm", \
     f using "percent":"native" with lines lc rgb c_native dt 2 lw 2 title "native", \
     f using "percent":"dseg" with linespoints lc rgb '#000000' pt 9 lw 2 title "dseg"
