#!/usr/bin/env bats
# list.bats: `nestbed list` and `nestbed doctor`, and what is made from them.

bats_require_minimum_version 1.5.0
load common

@test "every list: text, names and JSON agree" {
    for kind in paging workloads cpus counters engines traces experiments commands claims; do
        nb list $kind --json
        [ "$status" -eq 0 ]
        [ "$(jq -r '.[].name' <<< "$output")" = "$("$nestbed" list $kind --names)" ]
        [ "$(jq length <<< "$output")" = "$("$nestbed" list $kind | wc -l)" ]
        jq -e 'all(.[]; .summary | length > 0)' <<< "$output"
    done
}

@test "lists are sorted by name, except counters" {
    for kind in paging workloads cpus engines traces experiments commands claims; do
        "$nestbed" list $kind --names | LC_ALL=C sort -c
    done
}

@test "the strategies, engine and presets that are always there" {
    for name in ept native shadow; do
        "$nestbed" list paging --names | grep -qx $name
    done
    "$nestbed" list engines --names | grep -qx model
    for name in plain skx; do
        "$nestbed" list cpus --names | grep -qx $name
    done
}

@test "workloads: parameters have unit, default and range, and the default is inside it" {
    nb list workloads --json
    jq -e 'all(.[].params[]; (.unit | type == "string") and (.default | tonumber) >= (.min | tonumber)
        and (.default | tonumber) <= (.max | tonumber) and (.help | length > 0))' <<< "$output"
    nb list workloads -v
    grep -q -- '--set' <<< "$output"
}

@test "counters: unit and tag" {
    nb list counters --json
    jq -e 'all(.[]; (.tag == "exact" or .tag == "measured") and (.unit | length > 0))' <<< "$output"
}

@test "unknown list: nearest name; none: the names" {
    nb list pagin
    fail_line 64 "did you mean 'paging'"
    nb list
    fail_line 64 "paging, workloads, cpus"
    nb list paging cpus
    fail_line 64 "unexpected argument 'cpus'"
}

@test "every preset can run" {
    for cpu in $("$nestbed" list cpus --names); do
        nb "${SHORT[@]}" --cpu "$cpu" --json
        echo "$cpu: $status $err"
        [ "$status" -eq 0 ]
        [ "$(jq -r .cpu.name <<< "$output")" = "$cpu" ]
    done
}

@test "a preset file can be given by path" {
    cp "$repo/shadow_vs_ept/cpus/skx.ini" mine.ini
    nb "${SHORT[@]}" --cpu ./mine.ini --json
    [ "$status" -eq 0 ]
    [[ "$(jq -r .cpu.source <<< "$output")" == *mine.ini ]]
}

@test "doctor: one row per check, an apt-get line for what is missing" {
    run --separate-stderr env PATH=/nowhere "$nestbed" doctor
    [ "$status" -eq 69 ]
    [[ "$output" == *MISSING* ]]
    [[ "$output" == *"apt-get install"* ]]
    nb doctor --json
    [ "$status" -eq 0 ]
    jq -e '.ok and (.checks | length > 10) and all(.checks[]; .found | type == "boolean")' <<< "$output"
}

@test "bash completion offers names from the lists" {
    PATH=$(dirname "$nestbed"):$PATH
    # shellcheck source=/dev/null
    source "$repo/completions/nestbed.bash"
    COMP_WORDS=(nestbed run --paging sha) COMP_CWORD=3
    _nestbed
    [[ " ${COMPREPLY[*]} " == *" shadow "* ]]
    COMP_WORDS=(nestbed wal) COMP_CWORD=1
    _nestbed
    [ "${COMPREPLY[*]}" = walk ]
    COMP_WORDS=(nestbed run --guest-p) COMP_CWORD=2
    _nestbed
    [ "${COMPREPLY[*]}" = --guest-page ]
}

@test "the manual page has every command" {
    command -v help2man > /dev/null || skip "help2man is missing: apt-get install help2man"
    "$repo/tools/man" "$nestbed" > nestbed.1
    for command in $("$nestbed" list commands --names); do
        grep -qi "^\.SH.*$command" nestbed.1
    done
    command -v mandoc > /dev/null || return 0
    mandoc -Tlint -Wwarning nestbed.1
}

@test "bash completion offers commands, subcommands, names and flags, whatever the program's path" {
    completed() {
        bash --norc -c "source '$repo/completions/nestbed.bash'
            COMP_WORDS=(\"\$@\") COMP_CWORD=\$((\$# - 1))
            _nestbed && printf '%s\\n' \"\${COMPREPLY[@]}\"" - "$nestbed" "$@"
    }
    completed "" | grep -qx bench
    completed be | grep -qx bench
    [ "$(completed run --paging n)" = native ]
    [ "$(completed list exp)" = experiments ]
    [ "$(completed trace rec)" = record ]
    [ "$(completed bench coll)" = collect ]
    completed bench --fil | grep -qx -e --filter
    [ "$(completed labvm --paging "" | xargs)" = "ept shadow" ]
    [ "$(completed exits --engine "" | xargs)" = "kvm labvm" ]
    [ "$(completed exits --probe cr)" = cr3 ]
}
