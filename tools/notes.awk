# Prints the section of CHANGELOG.md about one version, for the page of its release:
#
#	awk -v version=v1.2.3 -f tools/notes.awk CHANGELOG.md
#
# It fails if there is no heading with that version and a day, or nothing below it.

BEGIN {
	sub(/^v/, "", version)
	heading = "## [" version "] - "
}

/^## / {
	day = substr($0, length(heading) + 1)
	inside = index($0, heading) == 1 && day ~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]$/
	next
}

/^\[[^]]+\]: / { next } # the headings' links

# GitHub renders every line break in the notes of a release, so folded lines are joined.
inside && /^ +[^ *-]/ { sub(/^ +/, " "); text = text $0; next }
inside { text = text "\n" $0 }

END {
	gsub(/^\n+|\n+$/, "", text)
	if (text == "") {
		print "CHANGELOG.md has nothing below a heading \"" heading "YYYY-MM-DD\"" | "cat >&2"
		exit 1
	}
	print text
}
