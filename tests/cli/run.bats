#!/usr/bin/env bats
# run.bats: options of `nestbed run`, its output forms, its exit statuses.

bats_require_minimum_version 1.5.0
load common

# ---- output forms ----
@test "--json: every counter of the list, null or a number, and the promised order" {
    nb "${SHORT[@]}" --json
    [ "$status" -eq 0 ]
    [ "$(jq -r '.counters | keys_unsorted[]' <<< "$output")" = "$("$nestbed" list counters --names)" ]
    jq -e '.counters | all(.[]; . == null or type == "number" or type == "string")' <<< "$output"
    [ "$(jq -r 'keys_unsorted | join(" ")' <<< "$output")" = "schema engine paging paging_params workload cpu pages levels mem \
vcpus numa flush_ceiling segment_bytes outcome counters phases per_vcpu cycles derived memory_hash balloon metadata_bytes wall_seconds tags env" ]
}

@test "--json: seed as hex, memory in bytes, tags, parameters" {
    nb "${SHORT[@]}" --seed 42 --json
    jq -e '.workload.seed == "0x2a" and .mem.guest == 67108864 and .tags.counters == "exact"
        and .tags.cycles == "modelled" and .tags.wall_seconds == "measured"
        and (.workload.params | length > 0) and (.env.git | length > 0)' <<< "$output"
}

@test "--json: the largest seed survives" {
    nb "${SHORT[@]}" --seed 18446744073709551615 --json
    [ "$status" -eq 0 ]
    [ "$(jq -r .workload.seed <<< "$output")" = 0xffffffffffffffff ]
}

@test "--json: phases add up to the total" {
    nb "${SHORT[@]}" --json
    jq -e '(.phases | map(.counters.walks) | add) == .counters.walks' <<< "$output"
    jq -e '(.phases | map(.counters.exits) | add) == .counters.exits' <<< "$output"
    jq -e '(.cycles | to_entries | map(select(.key != "total").value) | add) as $sum
        | ($sum - .cycles.total) | fabs < 1' <<< "$output"
}

@test "-x: header, then value, unit, name, tag; null is empty" {
    nb "${SHORT[@]}" -x ';'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 'value;unit;name;tag' ]
    [ "${lines[1]}" = 'ok;;outcome;exact' ]
    [ -z "$(awk -F';' 'NF != 4' <<< "$output")" ]
    grep -qE '^[0-9]+;walks;walks;exact$' <<< "$output"
    grep -qE '^;exits;exit_hlt;exact$' <<< "$output"
    grep -qE '^[0-9.]+;seconds;wall_seconds;measured$' <<< "$output"
    grep -qE '^[0-9]+;walks;work.walks;exact$' <<< "$output"
}

@test "-x agrees with --json" {
    "$nestbed" "${SHORT[@]}" --json > a.json
    "$nestbed" "${SHORT[@]}" -x '\t' > a.tsv
    [ "$(jq '.counters.walk_refs' a.json)" = "$(awk -F'\t' '$3 == "walk_refs" {print $1}' a.tsv)" ]
    diff <(jq -r '.counters | to_entries[] | "\(.key) \(.value // "")"' a.json) \
        <(awk -F'\t' 'NR == FNR {is[$0]; next} $3 in is {print $3 " " $1}' <(jq -r '.counters | keys[]' a.json) a.tsv)
    diff <(jq -r '.metadata_bytes | keys_unsorted[]' a.json) <(sed -n 's/.*\tmetadata_bytes\.\(.*\)\tmeasured$/\1/p' a.tsv)
}

@test "--json and -x exclude each other" {
    nb "${SHORT[@]}" --json -x ,
    fail_line 64 "exclude each other"
    nb "${SHORT[@]}" -x ''
    fail_line 64 "needs a separator"
}

@test "colour: never in a pipe, always on request" {
    nb "${SHORT[@]}"
    [[ "$output" != *$'\033'* ]]
    nb "${SHORT[@]}" --color=always
    [[ "$output" == *$'\033'* ]]
    nb "${SHORT[@]}" --color=sometimes
    fail_line 64 "auto, always or never"
}

@test "colour on a terminal, unless NO_COLOR says otherwise" {
    script -qec true /dev/null > /dev/null 2>&1 || skip "no pseudo-terminal to be had"
    run script -qec "TERM=xterm $nestbed ${SHORT[*]}" /dev/null
    [[ "$output" == *$'\033[1m'* ]]
    run script -qec "TERM=xterm NO_COLOR=1 $nestbed ${SHORT[*]} --quiet" /dev/null
    [[ "$output" != *$'\033[1m'* ]]
    run script -qec "TERM=xterm NO_COLOR= $nestbed ${SHORT[*]}" /dev/null
    [[ "$output" == *$'\033[1m'* ]]
}

@test "stderr is empty after a good run, even with --progress=never" {
    nb "${SHORT[@]}" --progress=never
    [ "$status" -eq 0 ]
    [ -z "$err" ]
}

# ---- determinism ----
@test "same seed: identical record up to what is measured; other seed: other counters" {
    for paging in ept shadow; do
        for seed in 1 1 2; do
            "$nestbed" run --paging $paging --workload gups --mem 256M --seed $seed --json > $paging.json
            jq -c '[.workload.params, .counters, .phases, .cycles, .derived]' $paging.json
        done > $paging.list
        [ "$(sed -n 1p $paging.list)" = "$(sed -n 2p $paging.list)" ]
        [ "$(sed -n 1p $paging.list)" != "$(sed -n 3p $paging.list)" ]
    done
}

@test "the guest cannot tell the strategies apart: one memory hash" {
    for paging in $("$nestbed" list paging --names); do
        "$nestbed" "${SHORT[@]}" --paging "$paging" --set run.hash=1 --json | jq -r '.memory_hash'
    done | sort -u > hashes
    [ "$(wc -l < hashes)" -eq 1 ]
    grep -qE '^[0-9a-f]{16}$' hashes
}

@test "without run.hash the hash is null" {
    nb "${SHORT[@]}" --json
    jq -e '.memory_hash == null' <<< "$output"
}

# ---- every workload ----
@test "run: every workload runs" {
    for workload in $("$nestbed" list workloads --names); do
        nb run --workload "$workload" --mem 1G --json
        echo "$workload: $status $err"
        [ "$status" -eq 0 ]
        jq -e '.counters.accesses > 0 and (.phases | map(.name) | contains(["setup", "work"]))' <<< "$output"
    done
}

# ---- wrong command lines ----
@test "unknown names: nearest name and the list" {
    nb run --workload touch --paging shdow
    fail_line 64 "did you mean 'shadow'? (choose from: "
    nb run --workload gusp
    fail_line 64 "did you mean 'gups'"
    nb run --workload touch --engine modell
    fail_line 64 "did you mean 'model'"
    nb run --workload touch --cpu skxx
    fail_line 64 "did you mean 'skx'"
    nb run --trace no-such-trace
    [ "$status" -ne 0 ]
    [ "$status" -lt 70 ]
    [ -z "$output" ]
}

@test "unknown option: argp's message, exit 64" {
    nb run --wrokload touch
    fail_with 64 "wrokload"
    nb run --workload touch extra
    fail_line 64 "unexpected argument 'extra'"
}

@test "sizes: garbage, zero, overflow, not a multiple of the page" {
    for size in '' x 1Q -5 1.5G 99999999999T 18446744073709551616; do
        nb run --workload touch "--mem=$size"
        fail_line 64 "--mem"
    done
    nb run --workload touch --mem 0
    fail_line 64 "needs memory"
    nb run --workload touch --mem 1000
    fail_line 64 "not a multiple of the guest's 4k page"
    nb run --workload touch --mem 1025M --guest-page 2m
    fail_line 64 "--mem 1G"
    nb run --workload touch --mem 1T --host-mem 17
    fail_line 64 "--host-mem"
    nb run --workload touch --mem 1024T
    fail_line 64 "host-levels 5"
    nb run --workload touch --mem 16777215T --host-levels 5
    fail_line 64 "2^52"
}

@test "a strategy is not given host pages or host levels that it does not have" {
    for paging in native dmt-native; do
        nb "${SHORT[@]}" --paging "$paging" --host-page 2m
        fail_line 64 "no host pages; leave the option out"
    done
    for paging in native dmt-native shadow shadow-lazy shadow-pv shadow-kvm shadow-pvm; do
        nb "${SHORT[@]}" --paging "$paging" --host-levels 5
        fail_line 64 "no host table"
    done
    for paging in ept-flat ecpt; do
        nb "${SHORT[@]}" --paging "$paging" --host-levels 5
        fail_line 64 "has no levels"
    done
    for paging in $("$nestbed" list paging --names); do # the defaults serve for all of them
        nb "${SHORT[@]}" --paging "$paging" --host-page 4k --levels 4 --host-levels 4
        [ "$status" -eq 0 ]
    done
    nb run --workload touch --paging shadow --mem 8192T # no nested table to outgrow: 2^52 is the limit
    fail_line 64 "x86-64"
}

@test "levels, pages, numa, seed: what is allowed is said" {
    nb run --workload touch --levels 6
    fail_line 64 "4 or 5"
    nb run --workload touch --guest-page 8k
    fail_line 64 "4k, 2m, 1g or thp"
    nb run --workload touch --numa left
    fail_line 64 "local, interleave or bind:N"
    nb run --workload touch --seed -1
    fail_line 64 "--seed"
    nb run --workload touch --numa bind:63
    [ "$status" -eq 64 ] || [ "$status" -eq 69 ]
    [ -z "$output" ]
}

@test "--workload and --trace exclude each other; one is needed" {
    nb run --workload touch --trace x
    fail_line 64 "exclude each other"
    nb run
    fail_line 64 "--workload NAME or --trace FILE"
}

@test "--set: unknown keys, bad values, wrong form" {
    nb run --workload touch --set nonsense=1
    fail_line 64 "nonsense"
    nb run --workload touch --set pages
    fail_line 64 "KEY=VALUE"
    nb run --workload touch --set guest.flush=1
    fail_line 64 "guest.flush_ceiling"
    nb run --workload touch --set run.hash=2
    fail_line 64 "0 or 1"
    nb run --workload touch --set guest.flush_ceiling=-1
    fail_line 64 "guest.flush_ceiling"
    nb run --workload touch --set guest.segment=0
    fail_line 64 "guest.segment=64M"
    nb run --workload touch --set nope.foo=1
    fail_line 64 "no paging strategy 'nope' (choose from: agile, dmt,"
    [[ $err == *"those of workload touch have no prefix"* ]]
    nb run --workload touch --set shadow-lzy.pages=4
    fail_line 64 "did you mean 'shadow-lazy'"
    nb run --trace cc1 --set nope.foo=1
    fail_line 64 "no paging strategy 'nope'"
    nb run --workload touch --paging ept --set dseg.filter_bits=512
    fail_line 64 "--paging dseg"
}

@test "--balloon: steps that say nothing are refused, phases that never begin are named" {
    for plan in "" "8M,,4M" "8M,"; do
        nb run --workload touch --balloon "$plan"
        fail_line 64 "'' is no step of a plan"
    done
    nb run --workload touch --balloon 8M@phase:boot
    fail_line 64 "leave the when out"
    nb run --workload touch --balloon 8M@phase:wrk,4M@phase:work
    [ "$status" -eq 0 ]
    [[ $err == *"phase 'wrk' never began"* && $err != *"'work' never"* ]]
}

@test "--set balloon.oom: the last word counts" {
    # 32 MiB are touched in work, where the balloon has left 4 of 64.
    local run=(run --workload touch --mem 64M --set pages=8192 --balloon 60M@phase:work --set balloon.oom=0)
    nb "${run[@]}"
    [ "$status" -eq 1 ] && [[ $err == *guest_oom* ]]
    nb "${run[@]}" --set balloon.oom=1
    [ "$status" -eq 0 ]
}

@test "--cpu: a missing file, a broken file" {
    nb run --workload touch --cpu ./absent.ini
    [ "$status" -eq 64 ] || [ "$status" -eq 66 ]
    [ -z "$output" ]
    printf '[nonsense]\na = 1\n' > broken.ini
    nb run --workload touch --cpu ./broken.ini
    [ "$status" -eq 65 ] || [ "$status" -eq 64 ]
    [[ "$err" == *broken.ini* ]]
}

# ---- outcomes ----
@test "host out of memory: a record with the outcome, one line on stderr, exit 1" {
    nb run --workload gups --mem 256M --host-mem 8M --json
    [ "$status" -eq 1 ]
    jq -e '.outcome.status == "host_oom" and (.outcome.detail | length > 10)' <<< "$output"
    [ "$(wc -l <<< "$err")" -eq 1 ]
    [[ "$err" == *host_oom* ]]
}

@test "a corrupt trace: exit 65 and no record" {
    head -c 5000 /dev/urandom > garbage.nbt
    nb run --trace ./garbage.nbt --json
    [ "$status" -eq 65 ]
    [ -z "$output" ]
    [[ "$err" == *garbage.nbt* ]]
}

@test "a missing trace file: exit 66" {
    nb run --trace ./absent.nbt --json
    [ "$status" -eq 66 ]
    [ -z "$output" ]
}

@test "a shipped trace replays under every strategy with the same accesses" {
    trace=$("$nestbed" list traces --names | head -n1)
    [ -n "$trace" ] || skip "no shipped traces"
    for paging in native shadow ept; do
        nb run --trace "$trace" --paging $paging --json
        [ "$status" -eq 0 ]
        jq -e '.workload.name == "trace"' <<< "$output"
        jq -c '[.counters.accesses, .counters.loads, .counters.stores, .counters.guest_faults]' <<< "$output" >> counts
    done
    [ "$(sort -u counts | wc -l)" -eq 1 ]
}

# ---- where output goes ----
@test "full disk: exit 74 and a reason" {
    [ -w /dev/full ] || skip "no /dev/full"
    for command in "run --workload touch --mem 64M --json" "walk" "list counters" "--help" "doctor"; do
        # shellcheck disable=SC2086
        run bash -c "'$nestbed' $command 2>&1 > /dev/full"
        echo "$command: $status $output"
        [ "$status" -eq 74 ]
        [[ "$output" == *"No space left"* ]]
    done
}

@test "closed stdout: exit 74" {
    run bash -c "'$nestbed' list counters 2>&1 >&-"
    [ "$status" -eq 74 ]
}

@test "a reader that leaves early ends nestbed quietly" {
    run bash -c "'$nestbed' list counters | head -n1"
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    run bash -c "set -o pipefail; ('$nestbed' walk --json; '$nestbed' list counters --json) 2> err | true; cat err"
    [[ "$output" != *nestbed:* ]]
}

@test "--balloon: an engine that does not pass it on refuses it" {
    nb run --engine labvm --workload touch --balloon 1M
    fail_line 64 "labvm run -- run --engine kvm"
}
