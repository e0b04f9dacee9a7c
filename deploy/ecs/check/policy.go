package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// policy is an IAM policy document with one statement.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect           string
	Action, Resource words
	Principal        map[string]string            // of a trust policy
	Condition        map[string]map[string]string // by operator and key
}

// words is a string, or the strings of a list, separated by spaces.
type words string

func (w *words) UnmarshalJSON(text []byte) error {
	var list []string
	if text[0] != '[' {
		return json.Unmarshal(text, (*string)(w))
	}
	err := json.Unmarshal(text, &list)
	*w = words(strings.Join(list, " "))
	return err
}

func parsePolicy(text []byte) (statement, error) {
	var p policy
	if err := strictly(text, &p); err != nil {
		return statement{}, err
	}
	if p.Version != "2012-10-17" || len(p.Statement) != 1 || p.Statement[0].Effect != "Allow" {
		return statement{}, errors.New("not exactly one statement that allows")
	}
	return p.Statement[0], nil
}

// checkAllows returns an error unless the statement allows exactly the actions, on a resource that matches.
func checkAllows(s statement, action words, resource string) error {
	switch {
	case s.Action != action:
		return fmt.Errorf("action %q", s.Action)
	case !regexp.MustCompile(`^(?:` + resource + `)$`).MatchString(string(s.Resource)):
		return fmt.Errorf("resource %q", s.Resource)
	case s.Principal != nil || s.Condition != nil:
		return errors.New("unexpected principal or condition")
	}
	return nil
}

// checkTrust returns an error unless only tasks of the account can assume the role.
func checkTrust(s statement) error {
	switch {
	case s.Action != "sts:AssumeRole" || s.Resource != "":
		return fmt.Errorf("action %q, resource %q", s.Action, s.Resource)
	case len(s.Principal) != 1 || s.Principal["Service"] != "ecs-tasks.amazonaws.com":
		return fmt.Errorf("principal %v", s.Principal)
	case !regexp.MustCompile(`^\d{12}$`).MatchString(s.Condition["StringEquals"]["aws:SourceAccount"]) ||
		!regexp.MustCompile(`^arn:aws:ecs:[a-z0-9-]+:\d{12}:\*$`).MatchString(s.Condition["ArnLike"]["aws:SourceArn"]):
		return fmt.Errorf("condition %v", s.Condition)
	}
	return nil
}
