W = 820; H = 460
load 'style.gp'
set title "One dependent load in N lines: what the host's TLBs hold  [measured]"
set xlabel "lines N; sparse: 4 KiB pages, huge: 2 MiB pages"
set ylabel "ns per load"
set logscale x 2
set logscale y
set format x "%.0f"
set key top left width 1
plot stem.'.tsv' using "lines":"sparse":"sparse_lo":"sparse_hi" with yerrorbars lc rgb '#D55E00' pt 7 lw 1 notitle, \
     '' using "lines":"sparse" with lines lc rgb '#D55E00' lw 2 title "sparse: a line in each 4 KiB page", \
     '' using "lines":"huge" with linespoints lc rgb '#009E73' pt 9 lw 2 title "huge: a line in each 2 MiB page", \
     '' using "lines":"dense" with linespoints lc rgb '#0072B2' pt 5 lw 2 title "dense: lines side by side (control)"
