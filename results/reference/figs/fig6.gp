# Events of every workload as the model predicts them and as Linux's KVM in an emulated machine counts them, with and without nested paging; the band is 2 % [predicted: exact; counted: counted]
# Redraw: gnuplot -e "fmt='svg'" fig6.gp   (svg, png, pdf or dumb)
stem = 'fig6'
W = 760; H = 620
load 'style.gp'
set title "Events of each workload and phase, predicted and counted\n[predicted: exact; counted: counted]" font ',11'
set xlabel "predicted by the model"
set ylabel "counted by KVM"
set logscale xy
set xrange [0.35:*]
set yrange [0.35:*]
set xtics add ("0" 0.5)
set ytics add ("0" 0.5)
set grid xtics ytics lc rgb '#dddddd' lw 0.7 dt 1
set key top left
f = stem.'.tsv'
stats f using 1 nooutput # its head is skipped: no number
top = 2*STATS_max
set samples 200
# The band is what still agrees: 2 % of what was counted.
plot [x=0.35:top] '+' using 1:($1/1.02):($1/0.98) with filledcurves lc rgb '#cccccc' title "2 %", \
     x with lines lc rgb '#555555' dt 2 lw 1 title "equal", \
     f using 1:2 with points pt 6 ps 1.9 lw 1.5 lc rgb c_ept title "labvm, nested paging", \
     f using 1:3 with points pt p_shadow ps 0.7 lc rgb c_shadow title "labvm, shadow paging", \
     f using 1:4 with points pt 12 ps 1.9 lw 1.5 lc rgb c_agile title "this host, nested paging", \
     f using 1:5 with points pt 8 ps 1.5 lw 1.5 lc rgb '#000000' title "this host, shadow paging"
