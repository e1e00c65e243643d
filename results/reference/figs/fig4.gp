# Cost of an access against page-table updates: the walk is dearer under nested paging, the update under shadow paging [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig4.gp   (svg, png, pdf or dumb)
stem = 'fig4'
W = 820; H = 460
load 'style.gp'
set title "Where the lines cross: churn, 64 MiB, 4 KiB pages  [modelled]"
set xlabel "page-table updates per 1000 accesses"
set ylabel "cycles per access"
set logscale xy
set xrange [0.7:1400]
set yrange [*:*] noextend
set offsets graph 0, graph 0, graph 0.05, graph 0.05
set key top left width 1
set ytics (100, 200, 300, 500, 1000, 2000, 3000, 5000, 10000, 20000, 50000)
x0(u) = u == 0 ? 0.8 : u
set xtics ("0" 0.8, "1" 1, "2" 2, "5" 5, "10" 10, "20" 20, "50" 50, "100" 100, "200" 200, "500" 500, "1000" 1000)
plot stem.'.tsv' using (x0(column("updates"))):"shadow" with linespoints lc rgb c_shadow pt p_shadow lw 2 title "shadow", \
     '' using (x0(column("updates"))):"ept" with linespoints lc rgb c_ept pt p_ept lw 2 title "EPT", \
     '' using "cross_x":"cross_y" with points pt 6 ps 2.5 lc rgb 'black' lw 2 title "crossing", \
     '' using "cross_x":"cross_y":(sprintf("%.1f updates", column("cross_x"))) with labels offset 0,1.8 notitle
