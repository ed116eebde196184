# bench/files.ts: hyp addresses of samples/exec-6.1.layout.json to physical ones, in lower-case text. Exact, since the eight
# digits that change are less than the 53 bits of a double.
function value(digits,   i, x) {
  for (i = 1; i <= length(digits); i++) x = x * 16 + index("0123456789abcdef", substr(digits, i, 1)) - 1
  return x
}
function translated(word,   prefix, digits, x) {
  digits = word
  if (word ~ /^0x/) { prefix = "0x"; digits = substr(word, 3) }
  if (length(digits) > 16 || (prefix == "" && length(digits) < 9)) return word
  if (digits !~ /^0*89b3[89a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]$/) return word
  x = value(substr(digits, length(digits) - 7)) - 1073741824
  return prefix sprintf(length(digits) == 16 ? "%016x" : "%x", x)
}
{
  rest = $0; line = ""
  while (match(rest, /[0-9A-Za-z_]+/)) {
    line = line substr(rest, 1, RSTART - 1) translated(substr(rest, RSTART, RLENGTH))
    rest = substr(rest, RSTART + RLENGTH)
  }
  print line rest
}
