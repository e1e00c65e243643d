# References per page walk for each pair of guest and host page size, 4 levels in each dimension unless said [exact]
# Redraw: gnuplot -e "fmt='svg'" fig1.gp   (svg, png, pdf or dumb)
stem = 'fig1'
W = 900; H = 420
load 'style.gp'
set style data histogram
set style histogram clustered gap 1.2
set boxwidth 0.9
set title "References per page walk  [exact]"
set xlabel "page size: guest on host"
set ylabel "table entries read"
set yrange [0:40]
set key top right horizontal width 1
set xtics noenhanced font ',10'
plot stem.'.tsv' using "native":xtic(1) title "native" fs pattern f_native border lc rgb c_native lc rgb c_native, \
     '' using "shadow" title "shadow" fs pattern f_shadow border lc rgb c_shadow lc rgb c_shadow, \
     '' using "ept" title "EPT" fs pattern f_ept border lc rgb c_ept lc rgb c_ept, \
     '' using "ept5" title "EPT, 5 levels in both" fs pattern 6 border lc rgb c_ept lc rgb c_ept, \
     '' using ($0-0.3):(column("native")):(sprintf("%g",column("native"))) with labels offset 0,0.6 font ',9' notitle, \
     '' using ($0-0.1):(column("shadow")):(sprintf("%g",column("shadow"))) with labels offset 0,0.6 font ',9' notitle, \
     '' using ($0+0.1):(column("ept")):(sprintf("%g",column("ept"))) with labels offset 0,0.6 font ',9' notitle, \
     '' using ($0+0.3):(column("ept5")):(sprintf("%g",column("ept5"))) with labels offset 0,0.6 font ',9' notitle
