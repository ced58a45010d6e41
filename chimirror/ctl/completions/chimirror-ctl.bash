# Completion of chimirror-ctl(1) for bash. tests/unit/ctl/test_completions.py
# holds this file equal to the usage text. bash-completion looks for it under the name
# chimirror-ctl.

_chimirror_ctl() {
    local verbs='sessions show log attach history stats close kill pause resume call limits'
    verbs+=' limit drain undrain metrics agent check manifest add remove'
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local verb='' options='' word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case " $verbs " in *" $word "*)
            verb=$word
            break
            ;;
        esac
    done
    case $previous in
        --sort)
            options='id peer user age application state in out cpu memory tasks'
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            return
            ;;
        --since)
            mapfile -t COMPREPLY < <(compgen -W '1h 1d today yesterday' -- "$current")
            return
            ;;
        --apps)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        --state | --output)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --host | --peer | --user | --application | --older | --younger | --lines | --url | --set | --own-socket | \
            --*-max | --cpu-quota | --session-timeout | --sessions | --sessions-per-*)
            return
            ;;
    esac
    case $verb in
        '') options="$verbs --help -h --version" ;;
        sessions) options='--host --json --no-trunc --watch --sort --peer --user --application --older --younger' ;;
        show) options='--json' ;;
        limits) options='--host --json --no-trunc --application' ;;
        check) options='--host --json --apps' ;;
        log) options='--follow -f' ;;
        attach) options='--json --raw' ;;
        history) options='--host --json --no-trunc --since --lines --peer --user --application' ;;
        stats) options='--host --json --no-trunc --since' ;;
        limit)
            options='--host --memory-max --tasks-max --cpu-quota --session-memory-max
                --session-tasks-max --session-timeout --sessions --sessions-per-source
                --sessions-per-user --runtime --application'
            ;;
        drain) options='--host --now' ;;
        undrain) options='--host' ;;
        metrics) options='--state --output' ;;
        agent) options='--application' ;;
        manifest) options='--apps --url' ;;
        add) options='--set --apps --own-socket' ;;
        remove) options='--apps' ;;
    esac
    if [[ -n $verb && $current == -* ]]; then
        options+=' --help -h'
    fi
    case $verb in show | log | attach | close | kill | pause | resume | call)
        if [[ $current != -* ]]; then
            # compgen expands its words, so only ids may reach it.
            options=$(chimirror-ctl sessions 2>/dev/null | cut -f 1 | grep '^[0-9a-f]*$')
        fi
        ;;
    esac
    if ((COMP_CWORD > 2)) && [[ $current != -* ]]; then
        case $verb in
            pause | resume) options='stdin stdout stderr' ;;
            call) options='manifest status pause resume signal close' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
}

complete -F _chimirror_ctl chimirror-ctl
