# Second-level TLB misses per 1000 accesses (two accesses make one random update) against the working set, guest and host pages of one size [exact]
# Redraw: gnuplot -e "fmt='svg'" fig5.gp   (svg, png, pdf or dumb)
stem = 'fig5'
W = 820; H = 440
load 'style.gp'
set title "Second-level TLB misses: random updates under nested paging  [exact]"
set xlabel "working set (MiB)"
set ylabel "misses per 1000 accesses"
set logscale x 2
set yrange [-15:540]
set key top left width 1
# Page sizes are not strategies: greys and shapes.
plot stem.'.tsv' using "mib":"4k" with linespoints lc rgb '#000000' pt 7 lw 2 title "4 KiB pages", \
     '' using "mib":"2m" with linespoints lc rgb '#CC79A7' pt 5 lw 2 title "2 MiB pages", \
     '' using "mib":"1g" with linespoints lc rgb '#56B4E9' pt 9 lw 2 title "1 GiB pages"
