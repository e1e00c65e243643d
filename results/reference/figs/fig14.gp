# Cycles of page walks per access against the memory that a balloon of 4 KiB pages gave back, from a host with 2 MiB pages whose guest has scattered free pages; beside each point the references of a nested walk [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig14.gp   (svg, png, pdf or dumb)
stem = 'fig14'
W = 820; H = 440
load 'style.gp'
set title "Reclaiming scattered pages; beside each point references a nested walk  [modelled]"
set xlabel "MiB given back to the host, out of 2 MiB host pages"
set ylabel "cycles of page walks per access"
set xrange [-0.5:16]
set yrange [0:*]
set key top left width 1
f = stem.'.tsv'
plot f using "split_mib":"ept" with linespoints lc rgb c_ept pt p_ept lw 2 title "ept, holes split", \
     f using "split_mib":"shadow" with linespoints lc rgb c_shadow pt p_shadow lw 2 title "shadow, holes split", \
     f using "defer_mib":"defer" with points lc rgb c_ept pt 6 ps 2 title "ept, holes deferred", \
     f using "split_mib":"ept":(sprintf("%.3g", column("ept_refs"))) with labels offset 0,1 notitle
