# VM exits by reason under shadow (s) and nested (e) paging, in % of the larger total of the workload; the number on a bar is its exits per 1000 accesses; workloads without exits are left out [exact]
# Redraw: gnuplot -e "fmt='svg'" fig3.gp   (svg, png, pdf or dumb)
stem = 'fig3'
W = 1000; H = 480
load 'style.gp'
# Heights are linear: 100 % is the larger total of each workload. Absolute numbers stand on the bars.
set title "VM exits by reason under shadow (s) and nested (e) paging; on each bar: exits per 1000 accesses  [exact]" font ',11'
set ylabel "% of the workload's larger total"
set yrange [0:110]
set ytics 0,25,100
set xrange [-1:*]
set style fill solid 1.0 border lc rgb '#555555'
set boxwidth 0.92
set key outside below center horizontal width 1 height 0.5
set bmargin 7
set xtics noenhanced scale 0 offset 0,0.3 font ',8'
f = stem.'.tsv'
part(v) = column("total") > 0 ? column(v)/column("total")*column("share") : 0
s1(d) = part("fill")
s2(d) = s1(0)+part("reflect")
s3(d) = s2(0)+part("pt_write")
s4(d) = s3(0)+part("cr3")
s5(d) = s4(0)+part("invlpg")
s6(d) = s5(0)+part("ept_violation")
number(v) = sprintf(v < 0.095 ? "%.1g" : v < 9.95 ? "%.2g" : "%.0f", v)
plot f using "x":(s6(0)):xtic(strcol("tick")) with boxes lc rgb '#56B4E9' title "nested-table fault", \
     f using "x":(s5(0)) with boxes lc rgb '#bbbbbb' title "INVLPG", \
     f using "x":(s4(0)) with boxes lc rgb '#F0E442' title "CR3 load", \
     f using "x":(s3(0)) with boxes lc rgb '#E69F00' title "table write", \
     f using "x":(s2(0)) with boxes lc rgb '#CC79A7' title "reflected fault", \
     f using "x":(s1(0)) with boxes lc rgb '#8c6d46' title "hidden fault (fill)", \
     f using "middle":(0):(strcol("label")) with labels noenhanced font ',10' offset 0,-2.3 notitle, \
     f using "x":"share":(number(column("total"))) with labels font ',9' offset 0,0.6 notitle
