# Word pairs, their counts, and the anagrams among the words.
use strict;
use warnings;
open my $text, '<', 'text.txt' or die;
my (%pairs, %seen);
while (my $line = <$text>) {
    my @words = map { lc } $line =~ /([a-z]+)/gi;
    $seen{$_}++ for @words;
    $pairs{"$words[$_] $words[$_ + 1]"}++ for 0 .. $#words - 1;
}
my %anagrams;
push @{ $anagrams{ join '', sort split //, $_ } }, $_ for sort keys %seen;
my @top = (sort { $pairs{$b} <=> $pairs{$a} || $a cmp $b } keys %pairs)[0 .. 9];
print "$_ $pairs{$_}\n" for @top;
printf "%d words, %d pairs, %d anagrams\n", scalar(keys %seen), scalar(keys %pairs),
    scalar(grep { @$_ > 1 } values %anagrams);
