#!/usr/bin/env bats
# cachegrind.bats: somebody else's simulator counts the same TLB misses.
#
# valgrind's cachegrind with lines of 4 KiB is a two-level TLB: --D1=262144,4,4096 has 64 entries of 4 ways,
# --LL=6291456,12,4096 has 1,536 of 12, both modulo and true LRU: preset plain. A real program, libc and all, runs under
# it; and is traced by lackey, another of valgrind's tools, and replayed natively. valgrind places program, heap and
# stack alike for both, so that the counts must be equal but for what the runs do not share:
#
#   - Start-up. valgrind sets environment strings that name the tool. libc reads them: some loads more or fewer, on two
#     pages at most (the top of the stack). A page that only one side touched costs that side a miss, and displaces
#     at most as many lines as a set has ways: 2 x (1 + 4) misses of the first level, 2 x (1 + 12) of the second.
#   - Code. LL also holds code. With an I1 of 1 GiB a page of code reaches LL once, when it is first run, and displaces
#     at most 12 others before it is the oldest itself: (pages of code) x 12.
#   - An access across a page boundary is one for cachegrind, which counts one miss at most, and two for us.

bats_require_minimum_version 1.5.0
load common

# event NAME: of the whole program, as cachegrind wrote it.
event() {
    awk -v e="$1" '$1 == "events:" {for (i = 2; i <= NF; i++) if ($i == e) c = i}
        $1 == "summary:" {print $c}' cg.out
}

# near A B BOUND
near() {
    local d=$(($1 > $2 ? $1 - $2 : $2 - $1))
    echo "$1 and $2, at most $3 apart"
    [ "$d" -le "$3" ]
}

count() { jq ".counters.$1" record.json; }

@test "cachegrind and the model count the same TLB misses of a real program" {
    command -v valgrind > /dev/null || skip "valgrind is missing: apt-get install valgrind"
    command -v "${CC:-gcc}" > /dev/null || skip "no ${CC:-gcc} to build the program with"
    "${CC:-gcc}" -static -O2 -o words "$repo/tests/programs/words.c" || skip "no static libc to link with"
    env -i PATH="$PATH" valgrind --tool=cachegrind --cache-sim=yes --I1=1073741824,1,4096 --D1=262144,4,4096 \
        --LL=6291456,12,4096 --cachegrind-out-file=cg.out ./words > there 2> cg.err
    env -i PATH="$PATH" "$nestbed" trace record --via lackey -o words.nbt -- ./words > here
    cmp here there
    "$nestbed" run --paging native --cpu plain --trace words.nbt --json > record.json

    crossings=$(jq .workload.trace.crossings record.json)
    code=$(event I1mr)
    [ "$(count loads)" -gt 1000000 ]
    [ "$code" -lt 200 ]
    [ "$crossings" -lt 1000 ]
    near "$(count loads)" "$(event Dr)" $((1000 + crossings)) # start-up
    near "$(count tlb_l1_misses)" $(($(event D1mr) + $(event D1mw))) $((2 * 5 + crossings))
    near "$(count tlb_l2_misses)" $(($(event DLmr) + $(event DLmw))) $((2 * 13 + 12 * code + crossings))

    # That is near: another geometry is not.
    "$nestbed" run --paging native --cpu skx --trace words.nbt --json > record.json
    run ! near "$(count tlb_l1_misses)" $(($(event D1mr) + $(event D1mw))) $((2 * 5 + crossings))
}
