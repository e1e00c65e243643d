# Builtins only, so that every process is this shell: subshells, pipes, command substitution, jobs.
count() {
    i=0 sum=0
    while [ $i -lt "$1" ]; do
        i=$((i + 1))
        sum=$(((sum * 31 + i) % 65521))
    done
    echo $sum
}

words() {
    for w in shadow nested balloon share walk fill zap reflect; do
        echo "$w $1"
    done
}

total=0
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    got=$(count $((round * 20)))
    total=$((total + got))
    words $round | while read -r name number; do
        case $name in
        s*) echo "$name-$number" ;;
        *) : ;;
        esac
    done
    (total=$((total * 2)); (count 50); echo $total)
done
count 200 &
count 200 &
wait
echo $total
