# shellcheck shell=bash
# nestbed.bash: bash completion. Every name comes from `nestbed list`, so that it cannot go stale.

_nestbed_names() { "${COMP_WORDS[0]}" list "$1" --names 2> /dev/null; }

_nestbed_probes() { "${COMP_WORDS[0]}" exits --list 2> /dev/null | cut -d ' ' -f 1; }

_nestbed_flags() {
    "${COMP_WORDS[0]}" "$1" --help 2> /dev/null | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

_nestbed() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    COMPREPLY=()
    # --flag=value arrives as three words.
    [ "$cur" = = ] && cur=
    [ "$prev" = = ] && prev=${COMP_WORDS[COMP_CWORD - 2]}
    case ${COMP_WORDS[1]}$prev in
    labvm--paging | labvm-p) prev=of_labvm words='ept shadow' ;;
    exits--engine) prev=of_exits words='kvm labvm' ;;
    verify--filter) prev=of_verify words=$(_nestbed_names claims) ;;
    exits--probe | exits-p) prev=of_exits words=$(_nestbed_probes) ;;
    esac
    case $prev in
    of_labvm | of_exits | of_verify) ;;
    --paging) words=$(_nestbed_names paging) ;;
    --workload) words=$(_nestbed_names workloads) ;;
    --engine) words=$(_nestbed_names engines) ;;
    --cpu) words=$(_nestbed_names cpus) ;;
    --trace) words=$(_nestbed_names traces) ;;
    --guest-page | --host-page) words='4k 2m 1g thp' ;;
    --levels | --host-levels) words='4 5' ;;
    --numa) words='local interleave bind:' ;;
    --progress | --color) words='auto always never' ;;
    --harness) words='hyperfine builtin' ;;
    --format | --out-format) words='console json csv' ;;
    help) words=$(_nestbed_names commands) ;;
    list) words='paging workloads cpus counters engines traces experiments commands claims' ;;
    trace) words='record convert info' ;;
    labvm) words="prepare run shell $(_nestbed_flags labvm)" ;;
    --targets) words='labvm host labvm,host' ;;
    bench) words="run plan cell collect paper export env refloop loop vmm inflate $(_nestbed_flags bench)" ;;
    *) [ "$COMP_CWORD" -eq 1 ] || words=$(_nestbed_flags "${COMP_WORDS[1]}") ;;
    esac
    [ "$COMP_CWORD" -gt 1 ] || words="$(_nestbed_names commands) help --help --version"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    case $prev in
    --trace | --cpu | --replay | boot) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}
complete -o default -F _nestbed nestbed
