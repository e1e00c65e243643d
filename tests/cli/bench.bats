#!/usr/bin/env bats
# bench.bats: plan, cell, collect, run, resume; Google Benchmark's command line; full disks and Ctrl-C.

bats_require_minimum_version 1.5.0
load common

# Few and fast cells.
FEW='^refs/.*/guest:4k/host:4k'
TINY='^aa/'

# Run directory of the last run here; filtered runs leave results/latest alone.
latest() {
    local dirs=(results/2*)
    readlink -f "$(printf '%s\n' "${dirs[@]}" | sort -V | tail -n 1)"
}

@test "bench --list prints names that a filter can pick" {
    nb bench --list --filter "$FEW"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "refs/paging:native/guest:4k/host:4k/levels:4-4/real_time" ]
    nb bench --list --filter "-refs"
    [[ "$output" != *refs/* ]]
}

@test "bench plan: one line a cell, ids unique, the same again" {
    "$nestbed" bench plan --quick > one
    "$nestbed" bench plan --quick > two
    cmp one two
    cells=$(grep -vc -e '^#' -e '^id' one)
    [ "$cells" -gt 50 ]
    [ "$(grep -v -e '^#' -e '^id' one | cut -f1 | sort -u | wc -l)" -eq "$cells" ]
}

@test "bench plan: strategies share a seed, another root seed changes it but no id" {
    "$nestbed" bench plan --quick --filter compare/workload:gups > one
    "$nestbed" bench plan --quick --filter compare/workload:gups --seed 7 > two
    [ "$(grep -v -e '^#' -e '^id' one | cut -f5 | sort -u | wc -l)" -eq 1 ]
    [ "$(grep -v -e '^#' one | cut -f1)" = "$(grep -v -e '^#' two | cut -f1)" ]
    [ "$(grep -v -e '^#' one | cut -f5)" != "$(grep -v -e '^#' two | cut -f5)" ]
}

@test "the command of a plan line makes the counters of its cell again" {
    "$nestbed" bench plan --quick --filter 'compare/workload:gups/paging:ept|reach/pages:2m/mib:16' > plan.tsv
    while IFS=$'\t' read -r id _ _ _ seed _ _ command; do
        [[ "$command" == *" --seed $seed" ]]
        "$nestbed" bench cell --plan plan.tsv --id "$id" --out . 2> /dev/null
        # shellcheck disable=SC2086 # pasted into a shell, it is words
        [ "$("$nestbed" $command < /dev/null | jq -S -c .phases)" = "$(jq -S -c .record.phases "$id.json")" ]
        sed 's/ --seed 0x[0-9a-f]*$//' plan.tsv > short.tsv # the column alone says it too
        nb bench cell --plan short.tsv --id "$id" --out .
        [[ "$err" == *"already there"* ]]
    done < <(grep -v -e '^#' -e '^id' plan.tsv)
}

@test "bench cell and collect: cells made one by one, missing ones named" {
    mkdir -p run/cells
    "$nestbed" bench plan --filter "$FEW" > run/plan.tsv
    nb bench cell --plan run/plan.tsv --index 0 --out run/cells
    [ "$status" -eq 0 ]
    nb bench cell --plan run/plan.tsv --index 0 --out run/cells
    [ "$status" -eq 0 ]
    [[ "$err" == *"already there"* ]]
    nb bench collect run --no-plots
    [ "$status" -eq 1 ]
    [[ "$output" == *"missing: "* ]]
    n=$(grep -vc -e '^#' -e '^id' run/plan.tsv)
    for ((i = 1; i < n; i++)); do
        "$nestbed" bench cell --plan run/plan.tsv --index "$i" --out run/cells 2> /dev/null
    done
    nb bench collect run --no-plots
    [ "$status" -eq 0 ]
    [ -s run/gbench.json ] && [ -s run/report.html ] && [ -s run/summary.tsv ]
    [ "$(cat run/failed.json)" = "[]" ]
    sed -i 's/"git":"[^"]*"/"git":"7654321"/' run/cells/*.json # the report names their commit, not its own
    "$nestbed" bench collect run --no-plots > /dev/null
    grep -q 'Commit 7654321' run/report.html
    [ "$(jq -r .context.nestbed_git run/gbench.json)" = 7654321 ]
}

@test "bench collect refuses cells of two commits" {
    mkdir -p run/cells
    "$nestbed" bench plan --filter "$FEW" > run/plan.tsv
    for i in 0 1 2 3 4 5 6 7; do
        "$nestbed" bench cell --plan run/plan.tsv --index "$i" --out run/cells 2> /dev/null || break
    done
    file=$(find run/cells -name '*.json' | head -n 1)
    sed -i 's/"git":"[^"]*"/"git":"1234567"/' "$file"
    nb bench collect run --no-plots
    [ "$status" -eq 1 ]
    [[ "$err" == *"--allow-mixed"* ]]
    nb bench collect run --no-plots --allow-mixed
    [ "$status" -eq 0 ]
}

@test "bench cell: an edited plan is refused with its line" {
    "$nestbed" bench plan --filter "$FEW" | sed 's/--levels 4/--levels 5/' > plan.tsv
    nb bench cell --plan plan.tsv --index 0 --out .
    [ "$status" -eq 65 ]
    [[ "$err" == *"plan.tsv:"* ]]
}

@test "bench run: a folder with everything, and sums that fit" {
    nb bench --quick --filter "$FEW" --harness builtin --jobs 2
    [ "$status" -eq 0 ]
    dir=$(latest)
    for file in manifest.json env.json plan.tsv gbench.json failed.json summary.tsv report.html SHA256SUMS; do
        [ -s "$dir/$file" ]
    done
    (cd "$dir" && sha256sum --quiet -c SHA256SUMS)
    [ "$(find "$dir" -name '*.tmp*' | wc -l)" -eq 0 ]
    [[ "$output" == *"refs_per_walk=24"* ]]
}

@test "bench run twice: two folders, exact counts alike" {
    "$nestbed" bench -q --no-plots --quick --filter compare/workload:gups > /dev/null
    one=$(latest)
    "$nestbed" bench -q --no-plots --quick --filter compare/workload:gups > /dev/null
    two=$(latest)
    [ "$one" != "$two" ]
    for file in "$one"/cells/*.json; do
        [ "$(jq -S -c '.record.phases' "$file")" = "$(jq -S -c '.record.phases' "$two/cells/${file##*/}")" ]
    done
}

@test "bench --dry-run says what it would take and makes nothing" {
    nb bench --quick --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" == *"cells: "* && "$output" == *"of RAM"* && "$output" == *"of disk"* ]]
    [ ! -e results ]
}

@test "a cell with a large working set takes the memory that the plan says" {
    "$nestbed" bench plan --filter reach/pages:2m/mib:8192 > plan.tsv
    "$nestbed" bench cell --plan plan.tsv --index 0 --out . 2> /dev/null
    kib=$(($(tail -n 1 plan.tsv | cut -f7) >> 10))
    jq -e --argjson kib "$kib" '.max_rss_kib < $kib and .max_rss_kib > $kib / 2' ./*.json
}

@test "bench: A/A pair gives a noise floor; timed cells have one sample a round" {
    nb bench --quick --no-plots --filter "$TINY" --harness builtin
    [ "$status" -eq 0 ]
    [[ "$output" == *"noise floor here: ±"* ]]
    [ "$(jq '.samples | length' "$(latest)"/cells/*.json | sort -u)" = 6 ]
}

@test "bench --harness=hyperfine takes times from hyperfine" {
    command -v hyperfine > /dev/null || skip "hyperfine is not installed"
    nb bench --quick --no-plots --filter "$TINY" --harness hyperfine --repetitions 2
    [ "$status" -eq 0 ]
    [ "$(jq -r .harness "$(latest)"/cells/*.json | sort -u)" = hyperfine ]
}

@test "bench --harness=hyperfine without hyperfine says how to get it" {
    run --separate-stderr env PATH=/nonexistent "$nestbed" bench --quick --filter "$TINY" --harness hyperfine
    [ "$status" -eq 69 ]
    [[ "$stderr" == *"apt-get install hyperfine"* ]]
}

@test "failed and skipped cells are listed and kept out of gbench.json" {
    # Stands for nestbed: one strategy fails, one and a half cannot run here, the rest works.
    cat > fake <<'END'
#!/bin/sh
case "$*" in
*--version*) echo "nestbed 0 (abcdef1)" ;;
*native*) echo "out of luck" >&2; exit 1 ;;
*shadow*) echo "no shadow here" >&2; exit 77 ;;
*ept*--host-levels\ 5*) echo "no device" >&2; exit 69 ;;
*) echo '{"refs":24}' ;;
esac
END
    chmod +x fake
    nb bench --quick --no-plots --filter "$FEW" --program "$PWD/fake"
    [ "$status" -eq 1 ]
    [[ "$err" == *"FAILED refs/paging:native"*"out of luck"* ]]
    [[ "$err" == *"skipped refs/paging:shadow"*"no shadow here"* ]]
    [[ "$err" == *"skipped refs/paging:ept"*"no device"* ]]
    dir=$(latest)
    [ "$(jq -r '.[].status' "$dir/failed.json" | sort -u | xargs)" = "failed skipped" ]
    [ "$(jq -r '.benchmarks[].name' "$dir/gbench.json" | grep -c -e native -e shadow)" -eq 0 ]
    [ "$(jq '[.benchmarks[].real_time] | min > 0' "$dir/gbench.json")" = true ]
    nb bench collect "$dir" --no-plots
    [ "$status" -eq 1 ]
}

@test "bench: untimed cells begin with the longest, and no plan asks for what a strategy lacks" {
    nb bench --quick --no-plots --filter 'refs/paging:native|crossover/updates:1/paging:ept' -j 1
    [ "$status" -eq 0 ]
    [[ $err == *" crossover/updates:1/paging:ept"*" refs/paging:native/guest:4k"* ]]
    "$nestbed" bench plan --full > cells.tsv
    grep -c -e '--paging native' cells.tsv
    run grep -E -e '--paging (native|dmt-native) .*(--host-page (2m|1g|thp)|--host-levels 5)' cells.tsv
    [ "$status" -eq 1 ]
}

@test "Ctrl-C: 130, no child left, nothing half-written; --resume goes on" {
    cat > slow <<'END'
#!/bin/sh
case "$*" in
*--version*) echo "nestbed 0 (abcdef1)" ;;
*native*) echo '{"refs":4}' ;;
*) [ -e go ] || { echo $$ > child; exec sleep 77.7; }; echo '{"refs":24}' ;;
esac
END
    chmod +x slow
    slow_child=$PWD/child
    sed -i "s|> child|> '$slow_child'|" slow
    "$nestbed" bench --quick --no-plots --filter "$FEW" --program "$PWD/slow" --jobs 1 > out 2> err &
    pid=$!
    for ((i = 0; i < 100; i++)); do
        [ -s "$slow_child" ] && break
        sleep 0.1
    done
    child=$(cat "$slow_child")
    kill -INT "$pid"
    ended=0
    wait "$pid" || ended=$?
    [ "$ended" -eq 130 ]
    run ! kill -0 "$child"
    dir=$(find results -maxdepth 1 -mindepth 1 -type d)
    grep -q -- "--resume $dir" err
    grep -q "make bench RUN=${dir##*/}$" err
    [ "$(jq -r .status "$dir/manifest.json")" = interrupted ]
    [ "$(find "$dir" -name '*.tmp*' | wc -l)" -eq 0 ]
    for file in "$dir"/cells/*.json; do jq -e .status "$file" > /dev/null; done
    kept=$(find "$dir/cells" -name '*.json' | wc -l)
    [ "$kept" -ge 1 ]
    touch go
    nb bench --no-plots --program "$PWD/slow" --resume "$dir"
    [ "$status" -eq 0 ]
    [ "$(jq -r .status "$dir/manifest.json")" = complete ]
    [ "$(find "$dir/cells" -name '*.json' | wc -l)" -eq "$(grep -vc -e '^#' -e '^id' "$dir/plan.tsv")" ]
}

@test "a full disk ends the run with 74 and no torn file" {
    run bash -c "ulimit -f 2; '$nestbed' bench --quick --no-plots --filter compare/workload:gups > /dev/null"
    [ "$status" -eq 74 ]
    [[ "$output" == *"finished results are kept"* ]]
    [ "$(find results -name '*.tmp*' | wc -l)" -eq 0 ]
}

@test "--out: a pipe or device is written to, never replaced" {
    mkfifo pipe
    timeout 20 cat pipe > got &
    nb bench -q --quick --no-plots --filter "$FEW" --out pipe
    [ "$status" -eq 0 ]
    [ -p pipe ]
    wait
    jq -e .benchmarks got > /dev/null
}

@test "Google Benchmark's flags: unknown ones 1, ours 64, environment, list as JSON" {
    nb bench --benchmark_nonsense
    [ "$status" -eq 1 ]
    [[ "$err" == *"--benchmark_nonsense"* ]]
    nb bench --nonsense
    [ "$status" -eq 64 ]
    BENCHMARK_FILTER=refs/paging:ept BENCHMARK_LIST_TESTS=true nb bench
    [ "$status" -eq 0 ]
    [ "$(grep -vc '^refs/paging:ept' <<< "$output")" -eq 0 ]
    "$nestbed" bench --benchmark_list_tests --benchmark_format=json | jq -e '.benchmarks | length > 50'
}

@test "gbench.json keeps to the safe subset" {
    "$nestbed" bench -q --quick --no-plots --filter "$TINY" --harness builtin --out copy.json > /dev/null
    jq -e '.context | .caches == [] and .json_schema_version == 1 and (.load_avg | length == 3)' copy.json
    jq -e '[.benchmarks[] | .name, .run_name | test("/real_time")] | all' copy.json
    jq -e '[.benchmarks[] | .real_time, .cpu_time | type == "number"] | all' copy.json
    jq -e '[.benchmarks[] | has("family_index") and has("per_family_instance_index") and has("run_type") and
            has("repetitions") and has("threads") and has("iterations") and has("time_unit")] | all' copy.json
    jq -e '[.benchmarks[] | select(.run_type == "iteration") | has("repetition_index")] | all' copy.json
    jq -e '[.benchmarks[] | has("items_per_second") or has("bytes_per_second")] | any | not' copy.json
}

# A program that answers like nestbed, at once: for tests of what happens around cells.
quick_program() {
    cat > "$1" << 'END'
#!/bin/sh
case "$*" in
*--version*) echo "nestbed 0 (abcdef1)" ;;
*"bench refloop"*) [ -e broken ] && exit 1; echo '{"seconds":0.01,"cpu_seconds":0.01,"counters":{"accesses":1}}' ;;
*) echo '{"refs":24}' ;;
esac
END
    chmod +x "$1"
}

@test "results/latest: moved by a whole run, also by --resume latest; left alone by a filtered one" {
    quick_program fake
    few() { nb bench --quick --no-plots --filter "$FEW" --program "$PWD/fake"; }
    whole() { nb bench -q --quick --no-plots --harness builtin --program "$PWD/fake"; }
    few
    [ "$status" -eq 0 ] && [ ! -e results/latest ]
    [[ "$err" == *"its results are in results/2"* ]]
    whole
    dir=$(readlink -f results/latest)
    [ "$dir" = "$(latest)" ]
    few
    [ "$(readlink -f results/latest)" = "$dir" ]
    for name in latest results/latest/; do
        nb bench -q --no-plots --program "$PWD/fake" --resume $name
        [ "$(readlink -f results/latest)" = "$dir" ] && [ -s "$dir/plan.tsv" ]
    done
}

@test "bench paper: only a whole run may change the file" {
    quick_program fake
    printf '<!-- begin:glossary -->?<!-- end:glossary -->\n' > page.md
    cp page.md before.md
    "$nestbed" bench -q --no-plots --filter "$FEW" --program "$PWD/fake" > /dev/null
    nb bench paper "$(latest)" page.md
    fail_line 1 "is not a whole run"
    nb bench paper "$(latest)" page.md --check
    [ "$status" -eq 1 ]
    [[ "$output$err" != *"make paper"* ]]
    cmp page.md before.md
    nb bench paper "$(latest)" page.md --any-plan
    [ "$status" -eq 0 ]
    grep -q walk_refs page.md
    cp before.md page.md
    "$nestbed" bench -q --no-plots --quick --harness builtin --program "$PWD/fake" > /dev/null
    nb bench paper results/latest page.md
    fail_line 1 "is not a whole run"
    [ -s "$repo/results/reference/plan.tsv" ] || skip "no reference results"
    nb bench paper "$repo/results/reference" page.md --check
    [[ "$err" == *"make paper"* ]]
    nb bench paper "$repo/results/reference" page.md
    [ "$status" -eq 0 ]
    grep -q walk_refs page.md
}

@test "--resume keeps the plan: flags that would change it are refused, --dry-run shows it" {
    "$nestbed" bench -q --quick --no-plots --filter "$FEW" > /dev/null
    for flag in --filter=refs --seed=7 --repetitions=3 --full; do
        nb bench --resume "$(latest)" "$flag"
        fail_with 64 "--resume goes on with the plan"
    done
    nb bench --resume "$(latest)" --quick --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" != *"# 0 cells"* ]]
}

@test "two at work in one run: the second is refused" {
    "$nestbed" bench -q --quick --no-plots --filter "$FEW" > /dev/null
    exec 7< "$(latest)"
    flock -n 7
    nb bench --no-plots --resume "$(latest)"
    fail_with 1 "another nestbed is at work"
    exec 7<&-
    nb bench -q --no-plots --resume "$(latest)"
    [ "$status" -eq 0 ]
}

@test "--resume on another machine is refused: times of two machines do not mix" {
    "$nestbed" bench -q --quick --no-plots --filter "$FEW" > /dev/null
    sed -i 's/"env_hash": "[^"]*"/"env_hash": "0123456789abcdef"/' "$(latest)/manifest.json"
    nb bench --no-plots --resume "$(latest)"
    fail_with 1 "another machine"
    nb bench -q --no-plots --resume "$(latest)" --allow-mixed
    [ "$status" -eq 0 ]
}

@test "a sample that failed is made again on --resume" {
    quick_program fake
    touch broken
    nb bench -q --quick --no-plots --filter "$TINY" --harness builtin --program "$PWD/fake"
    [ "$status" -eq 1 ]
    rm broken
    nb bench -q --no-plots --program "$PWD/fake" --resume "$(latest)"
    [ "$status" -eq 0 ]
}

@test "bench cell: a cell of another root seed is not taken for this one" {
    mkdir cells
    "$nestbed" bench plan --quick --filter compare/workload:switch/paging:native > one
    "$nestbed" bench plan --quick --filter compare/workload:switch/paging:native --seed 7 > two
    "$nestbed" bench cell --plan one --index 0 --out cells
    nb bench cell --plan two --index 0 --out cells
    [[ "$err" != *"already there"* ]]
    [ "$(jq -r .seed cells/*.json)" = "$(tail -n 1 two | cut -f5)" ]
}

@test "plans: markup in a name is text in the report, no cells is an error" {
    mkdir -p run/cells
    "$nestbed" bench plan --filter "$FEW" | sed 's|\trefs/paging:native|\t<b>refs|' > run/plan.tsv
    nb bench collect run --no-plots --allow-mixed
    run ! grep -q '<b>refs' run/report.html
    grep -q '&lt;b&gt;refs' run/report.html
    head -n 2 run/plan.tsv > empty && mv empty run/plan.tsv
    nb bench collect run --no-plots
    fail_with 65 "no cells"
}

@test "garbage for cells: named as missing, and no crash" {
    mkdir -p run/cells
    "$nestbed" bench plan --filter "$FEW" > run/plan.tsv
    garbage=('[]' '7' '"x"' '{' '{"status":"ok"}' '{"status":"ok","record":[]}' '{"status":7,"record":{"phases":{}}}'
        '{"status":"ok","samples":{"seconds":1},"record":{"phases":[7,{"name":"work","counters":[]}]}}')
    i=0
    while read -r id _; do
        echo "${garbage[i++ % 8]}" > "run/cells/$id.json"
    done < <(grep -v -e '^#' -e '^id' run/plan.tsv)
    nb bench collect run --no-plots --allow-mixed
    [ "$status" -le 1 ]
    jq -e '[.benchmarks[] | has("real_time") and has("cpu_time")] | all' run/gbench.json
}

@test "gbench.json of a run without times has no entries without times" {
    [ -s "$repo/results/reference/plan.tsv" ] || skip "no reference results"
    cp -r "$repo/results/reference" run
    "$nestbed" bench collect run --no-plots --allow-mixed > /dev/null
    jq -e '[.benchmarks[] | has("real_time") and has("cpu_time")] | all' run/gbench.json
    jq -e '.benchmarks | length > 50' run/gbench-modelled.json
}

@test "folders with blanks, quotes, newlines and bytes that are no text" {
    for name in $'a b\n\'c' $'line\nbreak' '#x' $'l\xe9'; do
        mkdir -p "$name"
        (
            cd "$name"
            ln "$nestbed" nestbed 2> /dev/null || cp "$nestbed" nestbed
            ./nestbed bench -q --quick --no-plots --filter "$TINY" --repetitions 2 > /dev/null
            jq -e '.benchmarks | length > 3' results/2*/gbench.json > /dev/null
            cd results/2*/
            sha256sum --quiet -c SHA256SUMS
        )
    done
}

@test "intervals are the same in gbench.json and summary.tsv" {
    "$nestbed" bench -q --quick --no-plots --filter "$TINY" --harness builtin > /dev/null
    lo=$(awk -F '\t' '$3 == "aa/side:a" && $4 == "seconds" {print $8}' "$(latest)/summary.tsv")
    jq -e --argjson lo "$lo" '.benchmarks[] | select(.name == "aa/side:a/real_time_ci95_lo") |
        (.real_time / 1e6 / $lo - 1) | fabs < 1e-6' "$(latest)/gbench.json"
}

@test "--benchmark_min_warmup_time adds rounds that are thrown away" {
    quick_program fake
    "$nestbed" bench -q --quick --no-plots --filter "$TINY" --harness builtin --program "$PWD/fake" \
        --benchmark_repetitions=2 --benchmark_min_warmup_time=0.02 > /dev/null
    warmup=$(jq .warmup "$(latest)/manifest.json")
    [ "$warmup" -gt 1 ]
    [ "$(jq '.samples | length' "$(latest)"/cells/*.json | sort -u)" = 2 ]
    [ "$(jq '.samples[0].round' "$(latest)"/cells/*.json | sort -u)" = "$warmup" ]
}

@test "Google Benchmark's flags: none is accepted without effect" {
    nb bench --quick --benchmark_perf_counters=CYCLES --filter "$FEW"
    fail_with 1 "processor counters are not read"
    nb bench --benchmark_color=purple
    fail_with 1 "auto, true or false"
    nb bench --v=x
    fail_with 1 "a number"
    [[ "$("$nestbed" bench --quick --no-plots --filter "$FEW" --benchmark_color=true 2> /dev/null)" == *$'\e[32m'* ]]
    [[ "$("$nestbed" bench -q --quick --no-plots --filter "$FEW" --v=1 2>&1)" == *"nestbed walk --paging"* ]]
}

@test "Ctrl-C while figures are drawn: 130, and cells are kept" {
    fc-match 'DejaVu Sans' > /dev/null || skip "no fonts"
    mkdir bin
    printf '#!/bin/sh\ncase "$*" in *--version*) exit ;; esac\necho $$ > "%s/child"\nexec sleep 66.6\n' "$PWD" > bin/gnuplot
    chmod +x bin/gnuplot
    PATH=$PWD/bin:$PATH "$nestbed" bench -q --quick --filter "$FEW" > out 2> err &
    pid=$!
    for ((i = 0; i < 100; i++)); do
        [ -s child ] && break
        sleep 0.1
    done
    kill -INT "$pid"
    ended=0
    wait "$pid" || ended=$?
    [ "$ended" -eq 130 ]
    grep -q 'bench collect' err
    run ! kill -0 "$(cat child)"
}

@test "a gnuplot that fails fails the run" {
    fc-match 'DejaVu Sans' > /dev/null || skip "no fonts"
    mkdir bin
    printf '#!/bin/sh\necho "no such terminal" >&2\nexit 1\n' > bin/gnuplot
    chmod +x bin/gnuplot
    PATH=$PWD/bin:$PATH nb bench -q --quick --filter "$FEW"
    [ "$status" -eq 1 ]
    [[ "$err" == *"no such terminal"* ]]
}

compare_py=/usr/share/benchmark/compare.py
need_compare() {
    [ -r $compare_py ] || skip "compare.py is not here: apt-get install libbenchmark-tools"
    /usr/bin/python3 -c 'import numpy, scipy' 2> /dev/null || skip "needs python3-numpy and python3-scipy"
}

@test "compare.py benchmarks A B reads two of our files" {
    need_compare
    for file in a b; do
        "$nestbed" bench -q --quick --no-plots --filter "$TINY" --harness builtin --repetitions 9 --out $file.json \
            > /dev/null
    done
    run /usr/bin/python3 $compare_py --no-color benchmarks a.json b.json
    [ "$status" -eq 0 ]
    [[ "$output" == *"aa/side:a/real_time_pvalue"*"U Test, Repetitions: 9 vs 9"* ]]
    [[ "$output" == *OVERALL_GEOMEAN* ]]
}

@test "compare.py filters FILE compares two strategies of one run" {
    need_compare
    "$nestbed" bench -q --quick --no-plots --filter compare/workload:stream > /dev/null
    run /usr/bin/python3 $compare_py --no-color filters "$(latest)/gbench.json" paging:shadow paging:ept
    [ "$status" -eq 0 ]
    [[ "$output" == *"compare/workload:stream/[paging:shadow vs. paging:ept]"* ]]
    run /usr/bin/python3 $compare_py --no-color filters "$(latest)/gbench-modelled.json" paging:shadow paging:ept
    [ "$status" -eq 0 ]
}

@test "compare.py runs nestbed-bench itself" {
    need_compare
    [ -x "${nestbed}-bench" ] || skip "no nestbed-bench beside $nestbed"
    run /usr/bin/python3 $compare_py --no-color benchmarks "${nestbed}-bench" "${nestbed}-bench" \
        --benchmark_filter=aa/side:a --benchmark_repetitions=2
    [ "$status" -eq 0 ]
    [[ "$output" == *OVERALL_GEOMEAN* ]]
}

@test "bench loop and refloop agree on every miss and every entry read" {
    for machine in "--kind native" "--kind shadow" "--kind ept" "--kind ept --cpu dmt-ref"; do
        for pattern in random seq; do
            read -ra args <<< "$machine --pattern $pattern --bytes 16M --accesses 200000 --json"
            [ "$("$nestbed" bench loop "${args[@]}" | jq -c .counters)" = \
              "$("$nestbed" bench refloop "${args[@]}" | jq -c .counters)" ]
        done
    done
}

@test "bench loop: a trace, and what no hand-written loop does" {
    "$nestbed" bench loop --kind ept --trace cc1 --json > loop.json
    jq -e '.pattern == "trace" and .counters.accesses > 6000000' loop.json
    run "$nestbed" bench refloop --trace cc1
    [ "$status" -eq 64 ]
    run "$nestbed" bench refloop --cpu dmt-ref
    [ "$status" -eq 64 ]
    [[ "$output" == *"add --kind ept"* ]]
}

@test "bench env: no guesses, and --redact takes names out" {
    "$nestbed" bench env > env.json
    jq -e '.schema == "nestbed-env/1" and (.summary | test("2-D paging hardware"))' env.json
    jq -e '.summary | test("EPT are modelled|: yes")' env.json
    "$nestbed" bench env --redact > env.json
    jq -e '.host == null and .user == null and .kernel.command_line == null' env.json
    "$nestbed" bench -q --quick --no-plots --filter "$FEW" --redact > /dev/null
    "$nestbed" bench -q --no-plots --resume "$(latest)" > /dev/null
    jq -e '.redacted and .host == null' "$(latest)/env.json"
    jq -e '.command == null' "$(latest)/manifest.json"
    run ! grep -rlF "$PWD" "$(latest)/"
}

@test "bench env: every field is there, known or null; load before and after a run" {
    "$nestbed" bench env > env.json
    jq -e '(.cpu | has("sockets") and has("microcode") and has("smt_active") and has("governor") and has("caches") and
                has("vulnerabilities")) and (.memory | has("numa") and has("numa_nodes") and has("swaps") and has("thp") and
                has("ksm") and has("zswap")) and (.cgroup | has("memory_max")) and (.kvm | has("backend")) and
           (.build | has("diff_hash") and has("dirty") and has("compiler") and has("jemalloc")) and (.limits | has("capabilities"))' env.json
    [ ! -d /sys/devices/system/node/node0 ] || jq -e '.memory.numa[0].distances' env.json
    jq -e '.memory.swaps == null or (.memory.swaps | type == "array")' env.json
    "$nestbed" bench -q --quick --no-plots --filter "$FEW" > /dev/null
    jq -e '.activity_after.context_switches and .activity.context_switches' "$(latest)/env.json"
}

@test "plot redraws from a run, one figure, and as text" {
    command -v gnuplot > /dev/null || skip "gnuplot is not installed"
    fc-match 'DejaVu Sans' > /dev/null || skip "no fonts"
    "$nestbed" bench -q --quick --no-plots --filter "^crossover" > /dev/null
    nb plot "$(latest)" --fig 4
    [ "$status" -eq 0 ]
    for end in tsv gp svg png; do [ -s "$(latest)/figs/fig4.$end" ]; done
    grep -q 'modelled' "$(latest)/figs/fig4.svg"
    sha=$(sha256sum < "$(latest)/figs/fig4.svg")
    nb plot "$(latest)" --fig 4
    [ "$sha" = "$(sha256sum < "$(latest)/figs/fig4.svg")" ]
    nb plot "$(latest)" --dumb --fig 4
    [[ "$output" == *"Figure 4."*"[modelled]"* ]]
    nb plot "$(latest)" --fig 1
    [ "$status" -eq 77 ]
    nb plot "$(latest)" --fig 42
    [ "$status" -eq 64 ]
    nb plot nowhere
    [ "$status" -eq 66 ]
}

@test "figure 3: bars in per cent of each workload's larger total, with the absolute number" {
    command -v gnuplot > /dev/null || skip "gnuplot is not installed"
    fc-match 'DejaVu Sans' > /dev/null || skip "no fonts"
    cp -r "$repo/results/reference" run
    "$nestbed" plot run --fig 3
    awk -F '\t' '/^#/ {next} !n++ {for (i = 1; i <= NF; i++) at[$i] = i; next}
        {share = $at["share"]; total = $at["total"]; w = $at["label"]
         if (share > top[w]) {top[w] = share; most[w] = total}
         if (total > largest[w]) largest[w] = total}
        END {for (w in top) if (top[w] != 100 || most[w] != largest[w]) exit 1; exit !n}' run/figs/fig3.tsv
    run ! grep -i 'log' run/figs/fig3.gp
}

@test "report.html needs nothing from elsewhere" {
    "$nestbed" bench -q --quick --filter "$FEW" > /dev/null
    html=$(latest)/report.html
    grep -q "default-src 'none'" "$html"
    run ! grep -q -e 'src="http' -e '<script' -e 'href="http' "$html"
}

@test "PAPER.md and results/reference agree" {
    [ -s "$repo/results/reference/facts.json" ] || skip "no reference results"
    nb bench paper "$repo/results/reference" "$repo/PAPER.md" --check
    [ "$status" -eq 0 ]
}

@test "results/reference: a fresh run of some exact cells gives the same counts" {
    ref=$repo/results/reference
    [ -s "$ref/plan.tsv" ] || skip "no reference results"
    mkdir cells
    for name in compare/workload:gups/paging:ept compare/workload:churn/paging:shadow refs/paging:ept/guest:4k/host:4k/levels:4-4; do
        id=$(awk -F '\t' -v n="$name" '$3 == n {print $1}' "$ref/plan.tsv")
        "$nestbed" bench cell --plan "$ref/plan.tsv" --id "$id" --out cells 2> /dev/null
        counts='.record | [.refs, (.phases[]? | select(.name == "work") | .counters)]'
        [ "$(jq -S -c "$counts" "cells/$id.json")" = "$(jq -S -c "$counts" "$ref/cells/$id.json")" ]
    done
}
