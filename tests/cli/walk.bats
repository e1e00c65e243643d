#!/usr/bin/env bats
# walk.bats: references per walk against the closed forms, for every pair of page sizes and levels.

bats_require_minimum_version 1.5.0
load common

# refs ARGUMENTS...: "refs refs_nested" of a walk
refs() { "$nestbed" walk --json "$@" | jq -r '"\(.refs) \(.refs_nested)"'; }

# Entries read per dimension for this page size and number of levels.
depth() { # depth PAGE LEVELS
    case $1 in
    4k) echo "$2" ;;
    2m) echo $(($2 - 1)) ;;
    1g) echo $(($2 - 2)) ;;
    esac
}

# expect PAGING GUEST HOST GUEST-LEVELS HOST-LEVELS REFS
expect() {
    local out
    out=$("$nestbed" walk --json --paging "$1" --guest-page "$2" --host-page "$3" --levels "$4" --host-levels "$5" |
        jq -r '"\(.refs) \(.steps | length)"')
    echo "$*: got $out"
    [ "$out" = "$6 $6" ]
}

@test "nested: the 36 published values" {
    # rows: guest page; columns: host 4k, 2m, 1g
    while read -r levels host_levels guest a b c; do
        expect ept "$guest" 4k "$levels" "$host_levels" "$a"
        expect ept "$guest" 2m "$levels" "$host_levels" "$b"
        expect ept "$guest" 1g "$levels" "$host_levels" "$c"
    done << TABLE
4 4 4k 24 19 14
4 4 2m 19 15 11
4 4 1g 14 11 8
5 4 4k 29 23 17
5 4 2m 24 19 14
5 4 1g 19 15 11
4 5 4k 29 24 19
4 5 2m 23 19 15
4 5 1g 17 14 11
5 5 4k 35 29 23
5 5 2m 29 24 19
5 5 1g 23 19 15
TABLE
}

@test "nested: g + (g + 1) h, of which (g + 1) h are in the host's table" {
    for guest in 4k 2m 1g; do
        for host in 4k 2m 1g; do
            g=$(depth $guest 4) h=$(depth $host 4)
            [ "$(refs --paging ept --guest-page $guest --host-page $host)" = \
                "$((g + (g + 1) * h)) $(((g + 1) * h))" ]
        done
    done
}

@test "direct segments: the other dimension's entries, or none" {
    for guest in 4k 2m 1g; do
        for host in 4k 2m 1g; do
            g=$(depth $guest 5) h=$(depth $host 4)
            [ "$(refs --paging dseg-vmm --levels 5 --guest-page $guest --host-page $host)" = "$g 0" ]
            [ "$(refs --paging dseg-guest --levels 5 --guest-page $guest --host-page $host)" = "$h $h" ]
            [ "$(refs --paging dseg --levels 5 --guest-page $guest --host-page $host)" = "0 0" ]
        done
    done
    nb walk --paging dseg
    [ "$status" -eq 0 ]
    [[ $output == *"by direct segments: 1 from gva to gpa, 1 from gpa to hpa"* ]]
    nb walk -s 7 --paging dseg
    fail_line 64 "direct segment"
}

@test "native: 4, 3, 2 and with five levels 5, 4, 3" {
    for levels in 4 5; do
        for page in 4k 2m 1g; do
            expect native $page 4k $levels 4 "$(depth $page $levels)"
        done
    done
}

@test "shadow: the depth of the effective page" {
    for levels in 4 5; do
        for guest in 4k 2m 1g; do
            for host in 4k 2m 1g; do
                g=$(depth $guest $levels) h=$(depth $host $levels)
                expect shadow $guest $host $levels 4 $((g > h ? g : h))
            done
        done
    done
}

@test "one TLB entry covers the smaller of the two pages" {
    [ "$("$nestbed" walk --json --guest-page 2m --host-page 4k | jq .page_bytes)" = 4096 ]
    [ "$("$nestbed" walk --json --guest-page 1g --host-page 2m | jq .page_bytes)" = 2097152 ]
    [ "$("$nestbed" walk --json --guest-page 1g --host-page 1g | jq .page_bytes)" = 1073741824 ]
}

@test "steps: numbered, hex addresses, labels of both dimensions" {
    nb walk --json
    jq -e '[.steps[].n] == [range(1; 25)]' <<< "$output"
    jq -e 'all(.steps[]; .hpa | test("^0x[0-9a-f]+$"))' <<< "$output"
    [ "$(jq -r '[.steps[].label] | join(" ")' <<< "$output")" = "G4H4 G4H3 G4H2 G4H1 G4 G3H4 G3H3 G3H2 G3H1 G3 \
G2H4 G2H3 G2H2 G2H1 G2 G1H4 G1H3 G1H2 G1H1 G1 UDH4 UDH3 UDH2 UDH1" ]
}

@test "the offset inside the page survives the translation" {
    for paging in native shadow ept; do
        "$nestbed" walk --paging $paging --gva 0x40000abc --json |
            jq -e '(.gpa | endswith("abc")) and (.hpa | endswith("abc"))'
    done
}

@test "the table says what the JSON says" {
    nb walk --paging ept
    grep -q '^24 references, 20 of them' <<< "$output"
    grep -qE '^ARG gva 0x' <<< "$output"
    [ "$(grep -cE '^ *[0-9]+  [GU]' <<< "$output")" -eq 24 ]
}

@test "-s: a problem, the same for the same seed, without its answer" {
    nb walk -s 7
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "ARG seed 7" ]
    [[ "$output" == *"Which entries"* ]]
    [[ "$output" != *references,* ]]
    [ "$output" = "$("$nestbed" walk -s 7)" ]
    [ "$output" != "$("$nestbed" walk -s 8)" ]
    nb walk -s 7 -c
    [[ "$output" == *references,* ]]
}

@test "-s: the words needed are all in the dump, and the entries lead to the answer" {
    for seed in $(seq 1 20); do
        "$nestbed" walk -s "$seed" -c --json > p.json
        "$nestbed" walk -s "$seed" --json | jq -e '.answer == null'
        jq -e '(.memory | map({(.address): .value}) | add) as $m | .paging as $p |
            all(.answer.steps[]; $m[if $p == "native" then .gpa else .hpa end] == .value)' p.json
    done
}

@test "-s: an option given fixes that part only" {
    free=$("$nestbed" walk -s 3 --json | jq -c '[.pages, .gva]')
    fixed=$("$nestbed" walk -s 3 --paging shadow --json | jq -c '[.pages, .gva]')
    [ "$free" = "$fixed" ]
    [ "$("$nestbed" walk -s 3 --paging shadow --json | jq -r .paging)" = shadow ]
}

@test "hashed tables: three references, and every place they read" {
    # w ways, three page sizes: 3w places of the guest's entry, each behind 3w of the host's; then 3w and 3w
    for ways in 3 4 8; do
        places=$((3 * ways))
        "$nestbed" walk --paging ecpt --set ecpt.ways=$ways --json |
            jq -e --argjson n $places '.refs == 3 and .probes == $n * $n + 2 * $n and
                [.steps[].probes] == [$n * $n, $n, $n]'
    done
    nb walk --paging ecpt
    [[ $output == *"99 reads"* ]]
    # so many as a run counts, a walk, where none is lost to a fault or an exit
    "$nestbed" run --paging ecpt --workload gups --set size=8M --set updates=20000 --json |
        jq -e '.phases[] | select(.name == "work").counters |
            .walk_refs_lost == 0 and .walks > 0 and .walk_probes == 99 * .walks'
    "$nestbed" walk --json | jq -e '.probes == null and (.steps[0] | has("probes") | not)'
}

@test "--set: the strategy's parameters, and nothing of a run" {
    nb walk --set ecpt.ways=4
    fail_line 64 "add --paging ecpt"
    nb walk --paging ecpt --set ecpt.way=4
    fail_line 64 "did you mean 'ways'"
    nb walk --set run.hash=1
    fail_line 64 "no program runs here"
    nb walk --set pages=4
    fail_line 64 "no program runs here"
    "$nestbed" walk --paging dseg --set guest.segment=8M --json | jq -e '.seg_guest == 1 and .seg_vmm == 1'
}

@test "one vCPU makes one walk" {
    nb walk --vcpus 4
    fail_line 64 "leave the option out"
}

@test "-s: any strategy with tables, and no word of what it does not have" {
    for paging in $("$nestbed" list paging --names); do
        [[ $paging == dseg* ]] && continue
        for seed in 1 2 3 4 5 6 7 8; do
            nb walk -s $seed --paging "$paging"
            [ "$status" -eq 0 ]
            case $paging in
            native | dmt-native) [[ $output != *"ARG host-"* ]] ;;
            shadow*) [[ $output != *"ARG host-levels"* && $output == *"ARG host-page"* ]] ;;
            ept | agile) [[ $output == *"ARG host-levels"* ]] ;;
            esac
        done
    done
}

@test "wrong addresses and options" {
    nb walk --gva zzz
    fail_line 64 "--gva"
    nb walk --gva 0x800000000000
    [ "$status" -eq 64 ]
    [ -n "$err" ]
    nb walk -c
    fail_line 64 "-s SEED"
    nb walk -s x
    fail_line 64 "seed"
    nb walk --guest-page 1g --mem 512M
    fail_line 64 "--mem"
}
