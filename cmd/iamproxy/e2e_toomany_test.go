//go:build unix

package main

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// Nor can those use them up for whom there is no room, and who do not go.
func TestTooManyForFewFileDescriptors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &standin.Cluster{})
	p := startLimited(t, 256, clusterArgs(cluster)...)
	for {
		conn, err := p.connect(t.Context(), standin.IAMUser, standin.Database)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	startup, _ := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": standin.IAMUser, "database": standin.Database}}).Encode(nil)
	for range 400 {
		if _, err := dial(t, p.listens[0]).Write(startup); err != nil {
			t.Fatal(err)
		}
	}
	p.expectWatched()
	if strings.Contains(p.logs(), "cannot accept clients for now") {
		t.Error("descriptors were used up")
	}
}
