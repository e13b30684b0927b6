# Group, reshape and summarise records.
def mean: add / length;
group_by(.city)
| map({
    city: .[0].city,
    people: length,
    best: (max_by(.scores | mean) | .name),
    mean: (map(.scores[]) | mean),
    tags: (map(.tags[]) | group_by(.) | map({(.[0]): length}) | add)
  })
| sort_by(.mean)
| map(select(.people > 2) | .name = (.city | ascii_upcase | gsub("[AEIOU]"; "-")))
