package sweep

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// job is one with everything in it that could break YAML.
func job() Job {
	return Job{
		Name: "My dumbbell_2", Image: "registry.example/alplab:v1", Shards: 8, File: "lab.toml", Table: "lab.csv",
		Files: []File{
			{"lab.toml", []byte("# a: b\n[sweep]\n\trate = [\"1\"]\n  x = '${y}' \n")},
			{"traces/web.txt", []byte("1\n\n2")},
		},
		Args: []string{"--set", "rate=10mbit: #x", "--timeout", "1m0s"},
	}
}

// fields reads the definitions of the API: "Pod.spec" and its type.
func fields(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/kubernetes-1.37.fields")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for l := range strings.Lines(string(b)) {
		if name, typ, ok := strings.Cut(strings.TrimSpace(l), " "); ok && name != "#" {
			m[name] = typ
		}
	}
	return m
}

// check compares a value with its definition.
func check(t *testing.T, defs map[string]string, path, typ string, v any) {
	t.Helper()
	got := ""
	switch v := v.(type) {
	case string:
		got = "string"
	case int:
		got = "integer"
	case bool:
		got = "boolean"
	case []any:
		inner, ok := strings.CutPrefix(typ, "[]")
		if !ok {
			t.Errorf("%s is a list, not %s", path, typ)
		}
		for i, e := range v {
			check(t, defs, fmt.Sprintf("%s[%d]", path, i), inner, e)
		}
		return
	case map[string]any:
		inner, isMap := strings.CutPrefix(typ, "map:")
		for k, e := range v {
			if !isMap {
				if inner = defs[typ+"."+k]; inner == "" {
					t.Errorf("%s.%s: %s has no such field", path, k, typ)
					continue
				}
			}
			check(t, defs, path+"."+k, inner, e)
		}
		return
	}
	if got != typ {
		t.Errorf("%s is %v: %s, not %s", path, v, got, typ)
	}
}

// TestJobSchema compares every field with those that Kubernetes publishes.
func TestJobSchema(t *testing.T) {
	var b bytes.Buffer
	if err := job().Write(&b); err != nil {
		t.Fatal(err)
	}
	defs := fields(t)
	d := yaml.NewDecoder(&b)
	var objects []map[string]any
	for range 3 {
		var o map[string]any
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		check(t, defs, o["kind"].(string), o["kind"].(string), o)
		objects = append(objects, o)
	}
	at := func(o any, path ...any) any {
		for _, p := range path {
			switch p := p.(type) {
			case string:
				o = o.(map[string]any)[p]
			case int:
				o = o.([]any)[p]
			}
		}
		return o
	}
	for i, f := range job().Files {
		if got := at(objects[0], "data", fmt.Sprintf("file-%d", i)); got != string(f.Text) {
			t.Errorf("%s is %q, want %q", f.Path, got, f.Text)
		}
	}
	j := objects[2]
	for _, tt := range []struct {
		path []any
		want any
	}{
		{[]any{"apiVersion"}, "batch/v1"},
		{[]any{"spec", "completionMode"}, "Indexed"},
		{[]any{"spec", "completions"}, 8},
		{[]any{"spec", "parallelism"}, 8},
		{[]any{"spec", "template", "spec", "restartPolicy"}, "Never"},
		{[]any{"metadata", "name"}, "sweep-my-dumbbell-2"},
		{[]any{"spec", "template", "spec", "volumes", 0, "configMap", "items", 1, "path"}, "traces/web.txt"},
		{
			[]any{"spec", "template", "spec", "containers", 0, "args"},
			[]any{"sweep", "/scenario/lab.toml", "--shard", "auto/8", "-o", "/results/lab.csv", "--set", "rate=10mbit: #x", "--timeout", "1m0s"},
		},
	} {
		if got := at(j, tt.path...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%v is %v, want %v", tt.path, got, tt.want)
		}
	}
}

func TestJobErrors(t *testing.T) {
	for want, f := range map[string]File{
		"its own folder": {"../trace", nil},
		"at most":        {"trace", make([]byte, 2<<20)},
		"not a text":     {"trace", []byte("\xff\xfe")},
	} {
		j := job()
		j.Files = append(j.Files, f)
		if err := j.Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"": "sweep", "a": "sweep-a", "Über.x_": "sweep-ber-x",
		strings.Repeat("a", 80): "sweep-" + strings.Repeat("a", 40),
	} {
		if got := label(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
