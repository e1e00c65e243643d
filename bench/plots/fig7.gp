W = 860; H = 520
load 'style.gp'
set title "What one event costs, in instructions of guest, KVM and Linux together  [measured]"
set xlabel "instructions per event"
set logscale x
set xrange [0.7:*]
set yrange [*:*] reverse
set offsets 0, 0, 0.6, 0.6
set grid xtics ytics lc rgb '#dddddd' lw 0.7 dt 1
set key top right width 1
plot stem.'.tsv' using "ept":"row":ytic(2) with points pt p_ept ps 1.5 lc rgb c_ept title "nested paging (kvm_amd npt=1)" noenhanced, \
     '' using "shadow":"row" with points pt p_shadow ps 1.5 lc rgb c_shadow title "shadow paging (kvm_amd npt=0)" noenhanced
