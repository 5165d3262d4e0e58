// Compares manifests with what is stored as Argo CD does, by its own library.
//
//	argocd-diff              as it does by itself, by what was applied last
//	argocd-diff --server     as it does with server-side diff, by asking the API server that kubectl knows
//
// Reads a JSON list of {"config": …, "live": …} and prints a line for each that Argo CD would call OutOfSync, with what it
// would set and what is there.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type pair struct {
	Config map[string]any `json:"config"`
	Live   map[string]any `json:"live"`
}

// dryRunner applies on the server, for a look at what would come of it.
type dryRunner struct{}

func (dryRunner) Run(ctx context.Context, object *unstructured.Unstructured, manager string) (string, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return "", err
	}
	kubectl := exec.CommandContext(ctx, "kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server",
		"--field-manager", manager, "--show-managed-fields", "--output", "json", "--filename", "-")
	kubectl.Stdin = bytes.NewReader(text)
	kubectl.Stderr = os.Stderr
	answer, err := kubectl.Output()
	return string(answer), err
}

func main() {
	var pairs []pair
	if err := json.NewDecoder(os.Stdin).Decode(&pairs); err != nil {
		fmt.Fprintln(os.Stderr, "argocd-diff:", err)
		os.Exit(2)
	}
	var options []diff.Option
	if len(os.Args) > 1 && os.Args[1] == "--server" {
		options = []diff.Option{
			diff.WithServerSideDiff(true), diff.WithServerSideDryRunner(dryRunner{}), diff.WithManager("argocd-controller"),
			// None runs here, and to tell its changes apart takes the server's schemas.
			diff.WithIgnoreMutationWebhook(false),
		}
	}
	for _, each := range pairs {
		config, live := &unstructured.Unstructured{Object: each.Config}, &unstructured.Unstructured{Object: each.Live}
		result, err := diff.Diff(config, live, options...)
		switch {
		case err != nil:
			fmt.Printf("%s %s: %v\n", config.GetKind(), config.GetName(), err)
		case result.Modified:
			fmt.Printf("%s %s: predicted %s, live %s\n", config.GetKind(), config.GetName(), result.PredictedLive, result.NormalizedLive)
		}
	}
}
