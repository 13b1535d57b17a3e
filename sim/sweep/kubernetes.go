package sweep

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"text/template"
	"unicode/utf8"

	_ "embed"

	"go.yaml.in/yaml/v3"
)

// Job is a sweep on a Kubernetes cluster: an Indexed Job with a shard for each index.
type Job struct {
	Name   string   // of its objects, made valid if it is not
	Image  string   // that has alplab
	Shards int      // pods
	File   string   // the scenario's file
	Files  []File   // the scenario's and those that it names, by their paths relative to it
	Table  string   // name of the table's file, without a folder
	Args   []string // further arguments of every shard
}

// maxConfigMap is the most that a ConfigMap holds: 1 MiB, less some for its keys.
const maxConfigMap = 1<<20 - 4096

//go:embed kubernetes.txt
var jobComment string

// results and scenario are where the pods find their volumes.
const (
	results  = "/results"
	scenario = "/scenario"
)

// The objects, with the fields that are used here; the names are those of Kubernetes'
// API (v1, batch/v1).
type (
	object struct {
		APIVersion string            `yaml:"apiVersion"`
		Kind       string            `yaml:"kind"`
		Metadata   meta              `yaml:"metadata"`
		Data       map[string]string `yaml:"data,omitempty"`
		Spec       any               `yaml:"spec,omitempty"`
	}
	meta struct {
		Name string `yaml:"name"`
	}
	claimSpec struct {
		AccessModes []string  `yaml:"accessModes"`
		Resources   resources `yaml:"resources"`
	}
	resources struct {
		Requests map[string]string `yaml:"requests,omitempty"`
		Limits   map[string]string `yaml:"limits,omitempty"`
	}
	jobSpec struct {
		CompletionMode       string        `yaml:"completionMode"`
		Completions          int           `yaml:"completions"`
		Parallelism          int           `yaml:"parallelism"`
		BackoffLimitPerIndex int           `yaml:"backoffLimitPerIndex"`
		PodFailurePolicy     failurePolicy `yaml:"podFailurePolicy"`
		Template             podTemplate   `yaml:"template"`
	}
	failurePolicy struct {
		Rules []failureRule `yaml:"rules"`
	}
	failureRule struct {
		Action          string         `yaml:"action"`
		OnExitCodes     *exitCodes     `yaml:"onExitCodes,omitempty"`
		OnPodConditions []podCondition `yaml:"onPodConditions,omitempty"`
	}
	exitCodes struct {
		Operator string `yaml:"operator"`
		Values   []int  `yaml:"values,flow"`
	}
	podCondition struct {
		Type string `yaml:"type"`
	}
	podTemplate struct {
		Spec podSpec `yaml:"spec"`
	}
	podSpec struct {
		RestartPolicy                string      `yaml:"restartPolicy"`
		AutomountServiceAccountToken bool        `yaml:"automountServiceAccountToken"`
		SecurityContext              podSecurity `yaml:"securityContext"`
		Containers                   []container `yaml:"containers"`
		Volumes                      []volume    `yaml:"volumes"`
	}
	podSecurity struct {
		RunAsNonRoot   bool    `yaml:"runAsNonRoot"`
		RunAsUser      int     `yaml:"runAsUser"`
		FSGroup        int     `yaml:"fsGroup"`
		SeccompProfile profile `yaml:"seccompProfile"`
	}
	profile struct {
		Type string `yaml:"type"`
	}
	container struct {
		Name            string    `yaml:"name"`
		Image           string    `yaml:"image"`
		Command         []string  `yaml:"command,flow"`
		Args            []string  `yaml:"args"`
		WorkingDir      string    `yaml:"workingDir"`
		Resources       resources `yaml:"resources"`
		SecurityContext security  `yaml:"securityContext"`
		VolumeMounts    []mount   `yaml:"volumeMounts"`
	}
	security struct {
		AllowPrivilegeEscalation bool         `yaml:"allowPrivilegeEscalation"`
		Capabilities             capabilities `yaml:"capabilities"`
	}
	capabilities struct {
		Drop []string `yaml:"drop,flow"`
	}
	mount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly,omitempty"`
	}
	volume struct {
		Name                  string     `yaml:"name"`
		ConfigMap             *configMap `yaml:"configMap,omitempty"`
		PersistentVolumeClaim *claim     `yaml:"persistentVolumeClaim,omitempty"`
	}
	configMap struct {
		Name  string `yaml:"name"`
		Items []item `yaml:"items"`
	}
	item struct {
		Key  string `yaml:"key"`
		Path string `yaml:"path"`
	}
	claim struct {
		ClaimName string `yaml:"claimName"`
	}
)

var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// label makes a name a DNS label that leaves room for the index that a pod's name has.
func label(s string) string {
	s = strings.Trim(notLabel.ReplaceAllString(strings.ToLower(s), "-"), "-")
	if len(s) > 40 {
		s = strings.Trim(s[:40], "-")
	}
	if s == "" {
		return "sweep"
	}
	return "sweep-" + s
}

// Write writes the objects in YAML: a ConfigMap with the scenario, a claim for a volume
// of results, and the Job. A comment says what the user has to do.
func (j Job) Write(w io.Writer) error {
	name := label(j.Name)
	if j.Shards < 1 {
		return fmt.Errorf("%d shards: want at least 1", j.Shards)
	}
	for _, s := range []string{j.Image, j.Table} {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' }) {
			return fmt.Errorf("%q: want a name without spaces", s) // it stands in the comment
		}
	}
	files, cm, err := j.files(name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	t, err := template.New("").Parse(jobComment)
	if err != nil {
		return err
	}
	if err := t.Execute(&b, map[string]any{"Name": name, "Job": j}); err != nil {
		return err
	}
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	for _, o := range []object{files, {
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Metadata: meta{name + "-results"},
		Spec: claimSpec{
			AccessModes: []string{"ReadWriteMany"},
			Resources:   resources{Requests: map[string]string{"storage": "1Gi"}},
		},
	}, {
		APIVersion: "batch/v1", Kind: "Job", Metadata: meta{name},
		Spec: j.spec(name, cm),
	}} {
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	if err := e.Close(); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// files is the ConfigMap of the scenario's files, and the volume of them.
func (j Job) files(name string) (object, *configMap, error) {
	o := object{
		APIVersion: "v1", Kind: "ConfigMap", Metadata: meta{name + "-scenario"},
		Data: map[string]string{},
	}
	cm := &configMap{Name: o.Metadata.Name}
	size := 0
	for i, f := range j.Files {
		if p := path.Clean(f.Path); path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
			return o, nil, fmt.Errorf("%s: a scenario for other machines has its files in its own folder", f.Path)
		}
		if !utf8.Valid(f.Text) {
			return o, nil, fmt.Errorf("%s: not a text in UTF-8, which a ConfigMap wants", f.Path)
		}
		key := fmt.Sprintf("file-%d", i)
		cm.Items = append(cm.Items, item{key, path.Clean(f.Path)})
		o.Data[key] = string(f.Text)
		size += len(f.Text)
	}
	if size > maxConfigMap {
		return o, nil, fmt.Errorf("the scenario's files have %d bytes: a ConfigMap holds at most %d", size, maxConfigMap)
	}
	return o, cm, nil
}

// spec is the Job's.
func (j Job) spec(name string, files *configMap) jobSpec {
	args := []string{"sweep", path.Join(scenario, j.File), "--shard", fmt.Sprintf("auto/%d", j.Shards),
		"-o", path.Join(results, j.Table)}
	one := map[string]string{"cpu": "1", "memory": "1Gi"}
	return jobSpec{
		CompletionMode: "Indexed", Completions: j.Shards, Parallelism: j.Shards,
		BackoffLimitPerIndex: 5,
		PodFailurePolicy: failurePolicy{Rules: []failureRule{
			// A node that is drained is nobody's failure.
			{Action: "Ignore", OnPodConditions: []podCondition{{"DisruptionTarget"}}},
			// 1: the shard is complete, some of its rows failed; 2: it cannot run.
			{Action: "FailIndex", OnExitCodes: &exitCodes{"In", []int{1, 2}}},
		}},
		Template: podTemplate{podSpec{
			RestartPolicy: "Never",
			SecurityContext: podSecurity{
				RunAsNonRoot: true, RunAsUser: 65532, FSGroup: 65532, SeccompProfile: profile{"RuntimeDefault"},
			},
			Containers: []container{{
				Name: "sweep", Image: j.Image, Command: []string{"alplab"}, Args: append(args, j.Args...),
				WorkingDir:      scenario, // where files of an impairment are looked for
				Resources:       resources{Requests: one, Limits: one},
				SecurityContext: security{Capabilities: capabilities{Drop: []string{"ALL"}}},
				VolumeMounts: []mount{
					{Name: "scenario", MountPath: scenario, ReadOnly: true},
					{Name: "results", MountPath: results},
				},
			}},
			Volumes: []volume{
				{Name: "scenario", ConfigMap: files},
				{Name: "results", PersistentVolumeClaim: &claim{name + "-results"}},
			},
		}},
	}
}
