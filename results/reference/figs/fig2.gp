# Cycles per access and where they go, relative to native, for each workload under native (n), shadow (s) and nested (e) paging; bars that are cut bear their height [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig2.gp   (svg, png, pdf or dumb)
stem = 'fig2'
W = 1120; H = 500
load 'style.gp'
top = 2.4
set title "Cycles per access under native (n), shadow (s) and nested (e) paging, native = 1  [modelled]" offset 0,0.8
set ylabel "cycles per access / native"
set yrange [0:top]
set xrange [-1.2:*]
set style fill solid 1.0 border lc rgb '#333333'
set boxwidth 0.92
set key outside below center horizontal width 1 height 0.5
set bmargin 7
# x: the strategy's letter under each bar, the workload under each group
set xtics noenhanced scale 0 offset 0,0.3 font ',8'
f = stem.'.tsv'
rel(v) = column(v)/(column("total")/column("relative"))
cut(v) = v > top ? top : v
s1(d) = rel("access")
s2(d) = s1(0)+rel("stlb")
s3(d) = s2(0)+rel("walk")
s4(d) = s3(0)+rel("guest_fault")
s5(d) = s4(0)+rel("vmm")
s6(d) = s5(0)+rel("exit")
s7(d) = s6(0)+rel("host")
plot f using "x":(cut(s7(0))):xtic(strcol("tick")) with boxes lc rgb '#8c6d46' title "host memory", \
     f using "x":(cut(s6(0))) with boxes lc rgb '#E69F00' title "exit and entry", \
     f using "x":(cut(s5(0))) with boxes lc rgb '#555555' title "exit handler", \
     f using "x":(cut(s4(0))) with boxes lc rgb '#CC79A7' title "guest fault", \
     f using "x":(cut(s3(0))) with boxes lc rgb '#56B4E9' title "page walk", \
     f using "x":(cut(s2(0))) with boxes lc rgb '#F0E442' title "2nd-level TLB", \
     f using "x":(cut(s1(0))) with boxes lc rgb '#dddddd' title "data access", \
     f using "middle":(0):(strcol("label")) with labels noenhanced font ',10' offset 0,-2.3 notitle, \
     f using "x":(s7(0) > top ? top : NaN):(sprintf("%.1f", s7(0))) with labels font ',9' offset 0,0.6 notitle, \
     1 with lines lc rgb '#333333' dt 2 lw 1 notitle
