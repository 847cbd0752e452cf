# Completes commands, groups, options and keys of gan-lab in bash: eval "$(gan-lab completion)"
# Only a gan-lab is ever started for it. Hydra's own completion of `python train.py` starts any script that is named.

_gan_lab() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##* }
    local before=${line%"$word"}
    local words choices=()
    read -ra words <<< "$before"
    COMPREPLY=()
    if ((${#words[@]} == 1)); then
        read -ra choices <<< "$("${words[0]}" completion commands)"
    elif [[ ${words[1]} != completion ]]; then
        # Hydra takes no flags here, and its own syntax is that of a program without commands.
        local overrides=()
        local argument
        for argument in "${words[@]:2}"; do
            [[ $argument == -* ]] && continue
            # Of the values of a sweep the first: Hydra composes one configuration.
            [[ $argument == *\[* ]] || argument=${argument%%,*}
            overrides+=("${argument//\'/}")
        done
        line="gan-lab ${overrides[*]} $word"
        line=$(COMP_LINE=$line COMP_POINT=${#line} "${words[0]}" "${words[1]}" -sc query=bash 2> /dev/null)
        read -ra choices <<< "$line"
    fi
    local choice
    for choice in "${choices[@]}"; do
        [[ $choice == "$word"* ]] || continue
        # bash replaces only what follows the last =
        [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && choice=${choice#"${word%=*}="}
        COMPREPLY+=("$choice")
    done
    # A key goes on; a command and an option end.
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
}

complete -o default -F _gan_lab gan-lab
