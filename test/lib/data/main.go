// Answers questions as Kubernetes would; see README.md beside it.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Exactly one of Expression and Quantity is given.
type question struct {
	Expression *string
	Zone       string
	After      []int64
	Quantity   *string
}

type answer struct {
	Accepted bool     `json:"accepted"`
	Runs     []*int64 `json:"runs,omitempty"`
	Quantity string   `json:"quantity,omitempty"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var asked question
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			panic(err)
		}
		var given answer
		if asked.Quantity != nil {
			given = quantity(*asked.Quantity)
		} else {
			given = runs(*asked.Expression, asked.Zone, asked.After)
		}
		if err := output.Encode(given); err != nil {
			panic(err)
		}
	}
}

func runs(expression, zone string, after []int64) (given answer) {
	if _, err := cron.ParseStandard(expression); err != nil || strings.Contains(expression, "TZ") {
		return
	}
	// This is how the CronJob controller brings its timeZone in.
	schedule, err := cron.ParseStandard("TZ=" + zone + " " + expression)
	if err != nil {
		return
	}
	given.Accepted = true
	for _, instant := range after {
		var run *int64
		if next := schedule.Next(time.Unix(instant, 0)); !next.IsZero() {
			seconds := next.Unix()
			run = &seconds
		}
		given.Runs = append(given.Runs, run)
	}
	return
}

func quantity(text string) (given answer) {
	parsed, err := resource.ParseQuantity(text)
	if err != nil {
		return
	}
	number, suffix := parsed.CanonicalizeBytes(nil)
	return answer{Accepted: true, Quantity: string(number) + string(suffix)}
}
