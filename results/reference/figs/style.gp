# style.gp: what all figures share: size, fonts, one colour and one shape for each strategy.
# Needs `stem`; fmt is svg (default), png, pdf or dumb; W and H are pixels of the SVG.
if (!exists("fmt")) fmt = 'svg'
if (!exists("W")) W = 900
if (!exists("H")) H = 440

# The name that ids inside an SVG begin with takes letters, digits and _ only.
id = ''
do for [i = 1:strlen(stem)] {
    c = substr(stem, i, i)
    id = id.(strstrt('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_', c) ? c : '_')
}

if (fmt eq 'svg') set terminal svg size W,H dynamic font 'DejaVu Sans,12' name id background rgb 'white'
if (fmt eq 'png') set terminal pngcairo size 2*W,2*H font 'DejaVu Sans,12' fontscale 2 linewidth 2 pointscale 2
if (fmt eq 'pdf') set terminal pdfcairo size 17.8cm,17.8cm*H/W font 'Liberation Sans,8'
if (fmt eq 'dumb') set terminal dumb 100 28
if (fmt ne 'dumb') set output stem.'.'.fmt

set datafile separator tab
set datafile missing "NaN"
set datafile commentschars '#'

# Okabe and Ito's colours: native, shadow, ept, and the hybrids.
c_native = '#999999'; c_shadow = '#D55E00'; c_ept = '#0072B2'; c_agile = '#009E73'
# Fill patterns and point shapes say the same in grey print.
f_native = 1; f_shadow = 2; f_ept = 3; f_agile = 5
p_native = 4; p_shadow = 5; p_ept = 7; p_agile = 9

set border 3 lw 1
set tics nomirror out
set grid ytics lc rgb '#dddddd' lw 0.7 dt 1
set key noenhanced samplen 2 spacing 1.1
