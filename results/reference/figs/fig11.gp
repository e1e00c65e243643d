# References per access against the share of pages that escape from direct segments: with all of them it is nested paging; a filter of 256 bits makes it that much sooner [exact]
# Redraw: gnuplot -e "fmt='svg'" fig11.gp   (svg, png, pdf or dumb)
stem = 'fig11'
W = 860; H = 440
load 'style.gp'
set title "Random updates of 64 MiB in direct segments  [exact]"
set xlabel "pages of each segment that escape (%, logarithmic)"
set ylabel "references per access"
# No logarithm of none: it stands apart, left of a gap in the axis.
none = 0.005
at(percent) = percent > 0 ? percent : none
set logscale x
set xrange [none/1.4:140]
set yrange [0:*]
set offsets 0, 0, graph 0.05, 0
set xtics ("0" none, "0.02" 0.02, "0.1" 0.1, "0.5" 0.5, "1" 1, "5" 5, "10" 10, "25" 25, "50" 50, "100" 100)
set arrow from 0.0095, graph -0.015 to 0.0105, graph 0.015 nohead lw 1
set arrow from 0.0105, graph -0.015 to 0.0115, graph 0.015 nohead lw 1
set key outside right center width 1
f = stem.'.tsv'
plot f using (at(column("percent"))):"ept" with lines lc rgb c_ept lw 2 title "ept", \
     f using (at(column("percent"))):"dseg-256" with linespoints lc rgb '#000000' pt 8 dt 3 lw 2 title "dseg, 256-bit filter", \
     f using (at(column("percent"))):"dseg-guest" with linespoints lc rgb '#56B4E9' pt 13 lw 2 title "dseg-guest", \
     f using (at(column("percent"))):"dseg-vmm" with linespoints lc rgb '#CC79A7' pt 11 lw 2 title "dseg-vmm", \
     f using (at(column("percent"))):"native" with lines lc rgb c_native dt 2 lw 2 title "native", \
     f using (at(column("percent"))):"dseg" with linespoints lc rgb '#000000' pt 9 lw 2 title "dseg"
