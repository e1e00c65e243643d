#!/usr/bin/env bats
# trace.bats: `nestbed trace`: record, convert, info, and what bad input and full disks do.

bats_require_minimum_version 1.5.0
load common

data=$BATS_TEST_DIRNAME/../data
export NESTBED_DATA=$BATS_TEST_DIRNAME/../../workloads # wherever the program under test lies

# No temporary file of a trace writer or recorder is left here.
nothing_left() {
    [ -z "$(find . -name '*.nbt*' -print -quit)" ]
    [ -z "$(find . -name 'nestbed-trace-*' -print -quit)" ]
}

needs_qemu() {
    command -v qemu-x86_64 > /dev/null || skip "qemu-x86_64 is not installed (Debian: qemu-user)"
    [ -e "$(dirname "$nestbed")/nestbed-qemu-plugin.so" ] || skip "the QEMU plugin is not built"
}

@test "help of each subcommand ends in an example" {
    for sub in record convert info; do
        nb trace $sub --help
        [ "$status" -eq 0 ]
        [[ "$output" == *Example:*"nestbed trace $sub"* ]]
    done
    nb trace
    fail_with 64 "Usage: nestbed trace"
    nb trace recrod
    fail_line 64 "did you mean 'record'?"
}

@test "info of a lackey text, from a file and from standard input" {
    nb trace info --json "$data/trace-small.lackey"
    [ "$status" -eq 0 ]
    [ "$(jq -c '[.format,.accesses,.stores,.skipped,.pages_4k]' <<< "$output")" = '["lackey",5,2,3,4]' ]
    nb trace info --json - < "$data/trace-small.lackey"
    [ "$(jq -c '[.format,.accesses,.bytes]' <<< "$output")" = '["lackey",5,null]' ]
}

@test "converting keeps every count" {
    nb trace convert "$data/trace-small.lackey" small.nbt
    [ "$status" -eq 0 ]
    nb trace info --json small.nbt
    [ "$(jq -c '[.format,.accesses,.stores,.skipped,.pages_4k]' <<< "$output")" = '["nbt",5,2,3,4]' ]
    nb trace convert --format nbt - again.nbt < small.nbt
    [ "$status" -eq 0 ]
    cmp small.nbt again.nbt
}

@test "a malformed line: file, line and what was expected; nothing is written" {
    nb trace convert "$data/trace-bad.lackey" out.nbt
    fail_line 65 "trace-bad.lackey:3: expected ' L address,size' (or S, M, I), got ' L 04222c88;8'"
    nothing_left
    nb trace info "$data/trace-bad.lackey"
    fail_line 65 "trace-bad.lackey:3:"
}

@test "a trace cut short, a trace with a flipped bit, no trace at all" {
    nb trace convert "$data/trace-small.lackey" whole.nbt
    head -c 150 whole.nbt > cut.nbt
    head -c -1 whole.nbt > shorter.nbt
    { head -c -5 whole.nbt; printf 'XXXXX'; } > flipped.nbt
    for bad in cut shorter flipped; do
        nb trace info $bad.nbt
        fail_line 65 "$bad.nbt: "
        nb trace convert $bad.nbt out.nbt
        fail_line 65 "$bad.nbt: "
        nb run --trace $bad.nbt --json
        fail_line 65 "$bad.nbt: "
        [ ! -e out.nbt ]
    done
    nb trace info "$BATS_TEST_FILENAME"
    fail_line 65 "not a trace of a known format"
    nb trace info /dev/null
    fail_line 65 "empty"
    nb trace info ./missing.nbt
    fail_line 66 "missing.nbt"
    nb trace info sqlitte
    fail_line 66 "did you mean 'sqlite'?"
}

@test "packed input is refused with the way to unpack it" {
    gzip -c "$data/trace-small.lackey" > small.gz
    nb trace info small.gz
    fail_line 65 "gzip -dc FILE | nestbed"
    gzip -dc small.gz | "$nestbed" trace info -
}

@test "a full disk: exit 74 and nothing half-written" {
    # A file-size limit stands in for a full disk: the write fails the same way.
    # shellcheck disable=SC2016 # the inner shell expands
    run --separate-stderr bash -c 'trap "" XFSZ; ulimit -f 100; exec "$0" trace convert --level 1 "$1" out.nbt' \
        "$nestbed" "$repo/workloads/traces/cc1.nbt"
    [ "$status" -eq 74 ]
    [[ "$stderr" == *"out.nbt: write failed"* ]]
    nothing_left
    nb trace convert "$data/trace-small.lackey" /dev/full
    fail_line 64 "not a regular file"
    [ -c /dev/full ]
    nb trace convert "$data/trace-small.lackey" missing/out.nbt
    fail_line 74 "cannot be created"
}

@test "converting endless input that holds no access can be stopped" {
    # shellcheck disable=SC2016 # the inner shell expands
    for input in 'cat /dev/zero' 'printf "==1== "; tr "\\0" x < /dev/zero'; do
        bash -c "$input" 2> err | timeout -k 20 -s INT 1 "$nestbed" trace convert - out.nbt 2> err && return 1
        [ "${PIPESTATUS[1]}" -ne 137 ]
        grep -q interrupted err
        nothing_left
    done
}

@test "bytes that are not UTF-8, in a command or a file name, keep a record whole" {
    needs_qemu
    nb trace record -o $'caf\xe9.nbt' -- /bin/true $'\xe9\x1b[1m'
    [ "$status" -eq 0 ]
    nb trace info --json $'caf\xe9.nbt'
    jq -e '.file == "caf?.nbt" and (.command | test("/bin/true .*\\?\\?\\[1m"))' <<< "$output"
    nb run --trace $'caf\xe9.nbt' --json
    jq -e '.workload.trace.file == "caf?.nbt"' <<< "$output"
}

@test "shipped traces: complete, small, listed, and with memory events" {
    for t in cc1 shell sqlite; do
        "$nestbed" list traces --names | grep -qx $t
        [ "$(stat -c %s "$repo/workloads/traces/$t.nbt")" -le $((2 << 20)) ]
        nb trace info --json $t
        [ "$status" -eq 0 ]
        jq -e '.accesses > 3e6 and .events.map > 10 and .events.exit == .processes' <<< "$output"
    done
    nb trace info --json shell
    jq -e '.processes > 50 and .events.fork == .processes - 1' <<< "$output"
}

@test "replaying a shipped trace maps nothing by itself" {
    nb run --trace shell --json
    [ "$status" -eq 0 ]
    jq -e '.workload.trace | .implicit_maps == 0 and .implicit_rights == 0 and .refused == 0' <<< "$output"
    jq -e '.outcome.status == "ok"' <<< "$output"
}

@test "replaying a text without memory events maps what is touched" {
    nb run --trace "$data/trace-small.lackey" --json
    [ "$status" -eq 0 ]
    jq -e '.workload.trace.implicit_maps == 3' <<< "$output"
    jq -e '.counters.guest_faults == 4' <<< "$output"
}

@test "record: /bin/true" {
    needs_qemu
    nb trace record -o true.nbt -- /bin/true
    [ "$status" -eq 0 ]
    nb trace info --json true.nbt
    jq -e '.command == "/bin/true" and .status == 0 and .accesses > 1000 and .events.exit == 1' <<< "$output"
    nb trace record -o again.nbt -- /bin/true
    cmp true.nbt again.nbt
}

@test "record: streams pass through, the status is kept, forks are followed" {
    needs_qemu
    # shellcheck disable=SC2016 # the inner shell expands
    nb trace record -o sh.nbt -- sh -c 'read x; (echo "got $x"); exit 7' <<< hello
    [ "$status" -eq 0 ]
    [ "$output" = "got hello" ]
    nb trace info --json sh.nbt
    jq -e '.status == 7 and .processes == 2 and .events.fork == 1 and .events.exit == 2' <<< "$output"
}

@test "record: programs that were exec'ed are named, failed attempts are not" {
    needs_qemu
    nb trace record -o sh.nbt -- sh -c './missing; /bin/true; /bin/false; exec true'
    [ "$status" -eq 0 ]
    [[ "$err" == *"nestbed: 3 programs started by exec were not recorded (true, false): record them directly, as in: nestbed trace record -o FILE -- true"* ]]
    nb trace record -o env.nbt -- env PATH=/nonexistent:/usr/bin:/bin true
    [[ "$err" == *"nestbed: 1 program started by exec was not recorded (true): "* ]]
    nb trace record -o true.nbt -- true
    [[ "$err" != *"by exec"* ]]
}

@test "record: a killed program leaves a sound trace" {
    needs_qemu
    nb trace record -o k.nbt -- sh -c 'kill -9 $$'
    [ "$status" -eq 0 ]
    nb trace info --json k.nbt
    jq -e '.status == 137 and .accesses > 1000 and .events.exit == 1' <<< "$output"
}

@test "record: --max-accesses keeps the first N" {
    needs_qemu
    nb trace record --max-accesses 5000 -o few.nbt -- /bin/true
    [ "$status" -eq 0 ]
    nb trace info --json few.nbt
    jq -e '.accesses == 5000' <<< "$output"
}

@test "record: what cannot be run is said, and nothing is written" {
    nb trace record -o x.nbt -- ./no-such-program
    fail_line 66 "no-such-program"
    printf '#!/bin/sh\n' > script && chmod +x script
    nb trace record -o x.nbt -- ./script
    fail_line 64 "record its interpreter, as in: nestbed trace record -o FILE -- /bin/sh ./script"
    printf '#!/usr/bin/env python3\n' > script
    nb trace record -o x.nbt -- ./script
    fail_line 64 "-- python3 ./script"
    printf '#! /usr/bin/env -S awk -f\nx' > script
    nb trace record -o x.nbt -- ./script
    fail_line 64 "-- awk -f ./script"
    nb trace record -o x.nbt
    [ "$status" -eq 64 ]
    nothing_left
}

@test "record: an interrupt leaves nothing" {
    needs_qemu
    export TMPDIR=$PWD
    timeout -s INT 2 "$nestbed" trace record -o i.nbt -- sleep 60 && return 1
    nothing_left
}

@test "record: a signal ends what the program left running, a second one a deaf program" {
    needs_qemu
    for program in 'sleep 50 & sleep 51' 'trap "" TERM; sleep 50; sleep 51'; do
        TMPDIR=$PWD "$nestbed" trace record -o i.nbt -- sh -c "$program" 2> err &
        sleep 1
        kill $!
        sleep 0.5
        kill $! 2> kill.err || true
        SECONDS=0
        wait $! && return 1
        [ "$SECONDS" -lt 10 ]
        grep -q "interrupted: no trace was written" err
        nothing_left
    done
}

@test "record --via lackey" {
    command -v valgrind > /dev/null || skip "valgrind is not installed"
    nb trace record --via lackey -o l.nbt -- /bin/true
    [ "$status" -eq 0 ]
    nb trace info --json l.nbt
    jq -e '.status == 0 and .accesses > 1000 and .skipped > .accesses and .events.map == 0' <<< "$output"
}
