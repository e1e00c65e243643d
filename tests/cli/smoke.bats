#!/usr/bin/env bats
# smoke.bats: every command starts, says what it takes, and ends with the right status. Short enough to be
# run on the sanitizer build too.

bats_require_minimum_version 1.5.0
load common

@test "--help lists every command and an example" {
    nb --help
    [ "$status" -eq 0 ]
    for command in $("$nestbed" list commands --names); do
        grep -q "^  $command " <<< "$output"
    done
    [[ "$output" == *"Example: nestbed "* ]]
}

@test "every command's --help has an example" {
    for command in $("$nestbed" list commands --names); do
        nb "$command" --help
        echo "$command: $status"
        [ "$status" -eq 0 ]
        [[ "$output" == *"Example: "* ]]
        [ -z "$err" ]
    done
}

@test "help COMMAND is COMMAND --help" {
    nb help run
    [ "$status" -eq 0 ]
    [ "$output" = "$("$nestbed" run --help)" ]
    nb help
    [ "$output" = "$("$nestbed" --help)" ]
}

@test "--version has a number and a commit" {
    nb --version
    [ "$status" -eq 0 ]
    [[ "$output" =~ ^nestbed\ [0-9]+\.[0-9]+\.[0-9]+\ \(.+\)$ ]]
}

@test "no command: usage on stderr, exit 64" {
    nb
    fail_with 64 "Usage: nestbed"
}

@test "unknown command: nearest name, exit 64" {
    nb wlak
    fail_line 64 "did you mean 'walk'"
    nb zzzzzzzzzz
    fail_line 64 "nestbed --help"
}

@test "an option before the command is explained" {
    nb --json run
    fail_line 64 "must follow a command"
}

@test "called as nestbed-bench it is the bench command" {
    "$nestbed" list commands --names | grep -qx bench || skip "no bench command in this build"
    ln -s "$nestbed" nestbed-bench
    run ./nestbed-bench --help
    [ "$status" -eq 0 ]
    [[ "$output" == *bench*--benchmark_* ]] || [[ "$output" == *bench*filter* ]]
}

@test "run: a record on every strategy, valid JSON, outcome ok" {
    for paging in $("$nestbed" list paging --names); do
        nb "${SHORT[@]}" --paging "$paging" --json
        echo "$paging: $status $err"
        [ "$status" -eq 0 ]
        jq -e --arg p "$paging" '.schema == "nestbed-record/1" and .paging == $p and .outcome.status == "ok"' \
            <<< "$output"
    done
}

@test "run: the table names its arguments, the seed and the tags" {
    nb "${SHORT[@]}" --seed 7
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == ARG\ * ]]
    grep -qE '^ARG seed +0x7$' <<< "$output"
    grep -q 'counter (exact)' <<< "$output"
    grep -q 'cycles (modelled)' <<< "$output"
    grep -q '(measured)' <<< "$output"
    grep -qE 'walk_refs +# 24 refs per walk' <<< "$output"
}

@test "walk, list, doctor: start and end well" {
    nb walk
    [ "$status" -eq 0 ]
    nb list workloads -v
    [ "$status" -eq 0 ]
    nb doctor
    [ "$status" -eq 0 ]
}
