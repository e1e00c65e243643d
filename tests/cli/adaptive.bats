#!/usr/bin/env bats
# adaptive.bats: strategies that switch report their decisions as events.

bats_require_minimum_version 1.5.0
load common

@test "shsp: each switch is an event, and counted" {
    "$nestbed" run --cpu plain --paging shsp --workload churn --set updates=200 --set period=200000 --set accesses=400000 \
        --set size=16M --set run.events=events --set run.check=1 --json > out
    [ "$(jq .counters.mode_switches out)" -eq "$(grep -c switch_to_ events)" ]
    # the calm stretch ends in shadow mode, the busy one nested
    [ "$(grep -o 'switch_to_[a-z]*' events | paste -sd' ')" = "switch_to_shadow switch_to_nested" ]
    jq -e '.counters | .accesses_nested + .accesses_shadow == .accesses' out
}

@test "agile: each switch is an event, and walks are counted by their nested levels" {
    "$nestbed" run --cpu plain --paging agile --workload forkcow --set procs=8 --set run.events=events --set run.check=1 --json > out
    [ "$(jq .counters.mode_switches out)" -eq "$(grep -c switch_to_ events)" ]
    [ "$(jq .counters.mode_switches out)" -gt 0 ]
    jq -e '.counters | [to_entries[] | select(.key | startswith("walks_nested_")) | .value] | add == 0 + $w' --argjson w "$(jq .counters.walks out)" out
}

@test "parameters of a strategy are checked" {
    nb run --paging agile --set agile.interval=1
    [ "$status" -eq 64 ]
    nb run --paging shsp --set shsp.nothing=1
    [ "$status" -eq 64 ]
}
