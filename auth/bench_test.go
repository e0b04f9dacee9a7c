package auth

import "testing"

// BenchmarkToken measures the cost of a cached token.
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

// freshToken returns Tokens with a fresh token of user u.
func freshToken(b *testing.B) *Tokens {
	b.Helper()
	tokens := newTokens(&fake{})
	if _, err := tokens.Token(b.Context(), "u"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return tokens
}

// BenchmarkSign measures the cost of a token that is not cached.
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
