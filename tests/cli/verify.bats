#!/usr/bin/env bats
# verify.bats: published results, claim by claim; the cheap ones are run here, all of them by `make bench`.

bats_require_minimum_version 1.5.0
load common

verdict_of() {
    jq -r --arg n "$1" '.claims[] | select(.name == $n) | .verdict' <<< "$output"
}

@test "verify: help ends in an example; wrong options" {
    nb verify --help
    [ "$status" -eq 0 ]
    [[ "$output" == *"Example: nestbed verify "* ]]
    nb verify --filter V99
    fail_line 64 "--filter V99: no claim is called so"
    nb verify --filter V1 --filter V
    fail_line 64 "--filter V: no claim is called so"
    nb verify V1
    fail_line 64 "unexpected argument 'V1'"
    nb verify --json -x ,
    fail_line 64 "exclude each other"
}

@test "verify: exact claims hold, with what was expected, got and run" {
    nb verify --filter V1 --filter V2 --filter V21 --json
    [ "$status" -eq 0 ]
    jq -e '.schema == "nestbed-verify/1" and .summary.fails == 0 and .summary.stale == 0' <<< "$output"
    for claim in V1a V1b V1c V1d V2b V21a; do
        [ "$(verdict_of $claim)" = holds ]
    done
    jq -e '[.claims[] | select(.name == "V1b") | .points[] | .got] == [24, 35, 36]' <<< "$output"
    jq -e 'all(.claims[] | select(.verdict == "holds" and .basis == "model");
        (.commands | length > 0) and all(.commands[]; startswith("nestbed ")))' <<< "$output"
}

@test "verify: a command of a claim can be repeated by hand" {
    nb verify --filter V1d --json
    command=$(jq -r '.claims[0].commands[-1]' <<< "$output")
    got=$(jq '.claims[0].points[-1].got' <<< "$output")
    [[ "$command" == "nestbed run --paging ept "* ]]
    # shellcheck disable=SC2086 # words
    nb ${command#nestbed } --json
    [ "$(jq .counters.walk_refs <<< "$output")" = "$got" ]
}

@test "verify: a claim that is not checked has the verdict null and a reason, and does not fail" {
    nb verify --filter V23 --filter V30 --json
    [ "$status" -eq 0 ]
    jq -e 'all(.claims[]; .verdict == null and (.note | length > 0) and .points == [])' <<< "$output"
    jq -e '.summary.not_checked == 2 and .summary.holds == 0' <<< "$output"
    nb verify --filter V23
    [[ "$output" == *"V23"*"not checked"*"needs page sharing"* ]]
}

@test "verify: a known disagreement says why and does not fail" {
    nb verify --filter V5b
    [ "$status" -eq 0 ]
    [[ "$output" == *"V5b"*"disagrees"*"does not hold"*"1 disagree, for a known reason"* ]]
}

@test "verify: separated fields: seven everywhere, one line a point" {
    nb verify --filter V1a --filter V23 -x ';'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "claim;kind;verdict;what;expected;got;holds" ]
    [ "$(awk -F ';' '{print NF}' <<< "$output" | sort -u)" = 7 ]
    grep -qx 'V1a;exact;holds;4 levels, 4k;4;4;yes' <<< "$output"
    grep -qx 'V23;shape;;;;;' <<< "$output"
}

@test "verify: the whole list of published results is there, in order" {
    nb verify --list
    [ "$status" -eq 0 ]
    cut -d ' ' -f 1 <<< "$output" | tr -dc '0-9\n' > numbers
    sort -nc numbers
    [ "$(sort -nu numbers)" = "$(seq 33)" ]
    [ "$(cut -d ' ' -f 1 <<< "$output" | sort)" = "$("$nestbed" list claims --names | sort)" ]
}

@test "verify: all of it shows progress in a log too, a part or --quiet does not" {
    timeout 3 "$nestbed" verify 2> err > /dev/null || true
    grep -q '^0/[0-9]*  V' err
    timeout 3 "$nestbed" verify --quiet 2> err > /dev/null || true
    [ ! -s err ]
    nb verify --filter V1
    [ -z "$err" ]
}

@test "verify: progress with the time that is left, on request" {
    nb verify --filter V1 --progress always
    [ "$status" -eq 0 ]
    [[ "$err" == *"/4  V1"*"eta"* ]]
    nb verify --filter V1 --progress always --quiet
    [ -z "$err" ]
}
