package auth

import "testing"

// BenchmarkToken is what the token of a login costs while there is a fresh one.
func BenchmarkToken(b *testing.B) {
	tokens := freshToken(b)
	for b.Loop() {
		if _, err := tokens.Token(b.Context(), "u"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenParallel(b *testing.B) {
	tokens := freshToken(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := tokens.Token(b.Context(), "u"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// freshToken returns tokens among which there is u's.
func freshToken(b *testing.B) *Tokens {
	b.Helper()
	tokens := newTokens(&fake{})
	if _, err := tokens.Token(b.Context(), "u"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return tokens
}

// BenchmarkSign is what it would cost if none were kept.
func BenchmarkSign(b *testing.B) {
	for _, kind := range []Kind{Cluster, DSQL} {
		b.Run(string(kind), func(b *testing.B) {
			source := &fake{}
			creds, err := source.fetch(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			tokens := newTokens(source)
			tokens.Kind = kind
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tokens.sign("u", creds); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
