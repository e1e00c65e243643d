# Cycles of an access while calm and busy stretches alternate, and below how much of each stretch was nested: accesses of shsp, which switches the whole VM, and walks of agile, which switches parts of the guest's tables [modelled]
# Redraw: gnuplot -e "fmt='svg'" fig13.gp   (svg, png, pdf or dumb)
stem = 'fig13'
W = 820; H = 560
load 'style.gp'
f = stem.'.tsv'
set multiplot
set lmargin 11
set rmargin 3
set size 1,0.66; set origin 0,0.34
set title "Calm and busy stretches in turn: churn, 16 MiB, CPU plain  [modelled]"
set ylabel "cycles per access"
set logscale y
set yrange [*:4000]
set key top left horizontal
set format x ""
plot f using (column("accesses")/1e3):"shadow" with lines lc rgb c_shadow lw 2 title "shadow", \
     f using (column("accesses")/1e3):"ept" with lines lc rgb c_ept lw 2 title "ept", \
     f using (column("accesses")/1e3):"shsp" with lines lc rgb '#CC79A7' lw 2 dt 2 title "shsp", \
     f using (column("accesses")/1e3):"agile" with lines lc rgb c_agile lw 2 dt 4 title "agile", \
     f using (column("accesses")/1e3):"native" with lines lc rgb c_native lw 2 title "native"
unset title
unset logscale y
set size 1,0.36; set origin 0,0
set format x "%g"
set xlabel "thousand accesses"
set ylabel "nested, %"
set yrange [0:140] # room for the key
set ytics 0, 20, 100
plot f using (column("accesses")/1e3):(100*column("shsp_nested")) with lines lc rgb '#CC79A7' lw 2 dt 2 title "shsp, accesses", \
     f using (column("accesses")/1e3):(100*column("agile_nested")) with lines lc rgb c_agile lw 2 dt 4 title "agile, walks"
unset multiplot
