# Command substitution, pipes and functions: a shell forks for each.
total=0
shout() { echo "$1" | tr a-z A-Z; }
for number in $(seq 1 60); do
    line="$number:$(expr $number \* $number)"
    case $line in
        *4*) line=$(shout "four in $line") ;;
        *) list="$list $( (echo "$line"; echo "$number") | sort | head -n 1)" ;;
    esac
    total=$(($total + ${#line}))
done
echo $total $(echo $list | wc -w)
