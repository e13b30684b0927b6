# Lengths, letters and words of a text, as a table.
{
    for (i = 1; i <= NF; i++) {
        word = tolower($i)
        gsub(/[^a-z]/, "", word)
        count[word]++
        where[word] = where[word] " " NR
        letters[length(word)] = letters[length(word)] substr(word, 1, 1)
    }
    lines[NR] = sprintf("%5d %s", NF, toupper(substr($0, 1, 20)))
}
END {
    n = asorti(count, order)
    for (i = 1; i <= n; i++)
        rows[i] = order[i] "\t" count[order[i]] "\t" split(where[order[i]], places, " ")
    for (i = 1; i <= n; i += 50)
        print rows[i]
    print NR, n, length(letters[5])
}
