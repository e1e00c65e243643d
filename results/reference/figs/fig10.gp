# Cycles of one TLB shootdown of eight pages against the number of vCPUs, of all vCPUs together, beside each point its VM exits: under shadow paging each vCPU's INVLPGs exit too [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig10.gp   (svg, png, pdf or dumb)
stem = 'fig10'
W = 820; H = 440
load 'style.gp'
set title "One TLB shootdown of eight pages; beside each point its VM exits  [modelled]"
set xlabel "vCPUs, each with a thread of the process in its TLB"
set ylabel "thousand cycles, all vCPUs together"
set xrange [0.3:9]
set yrange [0:*]
set offsets 0, 0, graph 0.1, 0
set xtics (1, 2, 4, 8)
set key top left width 1
f = stem.'.tsv'
plot f using "vcpus":(column("shadow")/1000) with linespoints lc rgb c_shadow pt p_shadow lw 2 title "shadow", \
     f using "vcpus":(column("ept")/1000) with linespoints lc rgb c_ept pt p_ept lw 2 title "ept", \
     f using "vcpus":(column("native")/1000) with linespoints lc rgb c_native pt p_native lw 2 title "native", \
     f using "vcpus":(column("shadow")/1000):(sprintf("%.3g", column("shadow_exits"))) with labels offset 0,1 notitle, \
     f using "vcpus":(column("ept")/1000):(sprintf("%.3g", column("ept_exits"))) with labels offset 0,1 notitle
