package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// modulePath is the repository's.
const modulePath = "github.com/alptrace/alptrace"

type buildFlags struct {
	with   []string
	output string
	source string
}

// buildCommand makes an alptrace with packages of the user's own.
func buildCommand() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build --with FOLDER...",
		Short: "build alptrace with congestion controls, ACK policies and the like of your own",
		Long: `build compiles alptrace together with Go packages that register something of their
own with package stack/tcp, such as a congestion control. A package is a folder; it
may be part of a module or, for a start, have no go.mod at all.`,
		Example: `  alplab build --with ./mycc -o mytrace
  ./mytrace --tcp alp,cc=mycc curl http://example.org/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return build(cmd, &f) },
	}
	c.Flags().StringArrayVar(&f.with, "with", nil, "the `FOLDER` of a package to build in (repeatable)")
	c.Flags().StringVarP(&f.output, "output", "o", "mytrace", "the `FILE` to make")
	c.Flags().StringVar(&f.source, "source", "", "the `FOLDER` of alptrace's source (default: around alplab, the packages, or here)")
	_ = c.MarkFlagRequired("with")
	return c
}

// addition is a package to build in.
type addition struct {
	dir      string // absolute
	module   string // the folder of its go.mod; empty: it has none
	path     string // its import path
	overlaid bool   // it gets a go.mod for this build
}

func build(cmd *cobra.Command, f *buildFlags) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return errors.New("build needs the Go tool (https://go.dev/dl), which is not in PATH")
	}
	adds := make([]addition, len(f.with))
	for i, dir := range f.with {
		if adds[i], err = newAddition(dir); err != nil {
			return err
		}
	}
	source, err := findSource(f.source, adds)
	if err != nil {
		return err
	}
	output, err := filepath.Abs(f.output)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "alplab-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	overlay, err := writeBuild(tmp, source, adds)
	if err != nil {
		return err
	}
	c := exec.Command(goTool, "build", "-buildvcs=false", "-overlay", overlay, "-o", output, "./mytrace")
	c.Dir = tmp
	c.Env = append(os.Environ(), "GOWORK="+filepath.Join(tmp, "go.work"), "GOFLAGS=", "CGO_ENABLED=0")
	c.Stdout, c.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := c.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

// newAddition finds out what package a folder is.
func newAddition(dir string) (addition, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return addition{}, err
	}
	a := addition{dir: abs}
	if st, err := os.Stat(abs); err != nil {
		return a, fmt.Errorf("--with %s: %w", dir, err)
	} else if !st.IsDir() {
		return a, fmt.Errorf("--with %s: not a folder", dir)
	}
	if files, _ := filepath.Glob(filepath.Join(abs, "*.go")); len(files) == 0 {
		return a, fmt.Errorf("--with %s: no Go files", dir)
	}
	root, path, err := moduleAround(abs)
	switch {
	case err != nil:
		return a, fmt.Errorf("--with %s: %w", dir, err)
	case root == "":
		a.module, a.path, a.overlaid = abs, "example.com/"+importable(filepath.Base(abs)), true
	default:
		rel, err := filepath.Rel(root, abs)
		if err != nil {
			return a, err
		}
		a.module, a.path = root, strings.TrimSuffix(path+"/"+filepath.ToSlash(rel), "/.")
	}
	return a, nil
}

// importable makes an element of an import path of a name.
func importable(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// moduleAround gives the folder and path of the module that a folder is in; both
// are empty if it is in none.
func moduleAround(dir string) (root, path string, err error) {
	for {
		file := filepath.Join(dir, "go.mod")
		if _, err := os.Stat(file); err == nil {
			m, err := readMod(file)
			return dir, m.Module.Path, err
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", "", err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", "", nil
		}
		dir = up
	}
}

// modFile is what is of interest in a go.mod.
type modFile struct {
	Module struct{ Path string }
	Go     string // version
}

func readMod(file string) (m modFile, err error) {
	out, err := exec.Command("go", "mod", "edit", "-json", file).Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err == nil && m.Module.Path == "" {
		err = errors.New("it names no module")
	}
	if err != nil {
		return m, fmt.Errorf("read %s: %w", file, err)
	}
	return m, nil
}

// findSource finds alptrace's source.
func findSource(flag string, adds []addition) (string, error) {
	if flag != "" {
		abs, err := filepath.Abs(flag)
		if err != nil {
			return "", err
		}
		root, path, err := moduleAround(abs)
		if err != nil || path != modulePath {
			return "", fmt.Errorf("--source %s: not the source of %s", flag, modulePath)
		}
		return root, nil
	}
	var places []string
	if exe, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(exe))
	}
	for _, a := range adds {
		places = append(places, a.dir)
	}
	if wd, err := os.Getwd(); err == nil {
		places = append(places, wd)
	}
	for _, p := range places {
		if root, path, err := moduleAround(p); err == nil && path == modulePath {
			return root, nil
		}
	}
	for _, a := range adds { // a module that requires it knows where it is
		if a.overlaid {
			continue
		}
		c := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", modulePath)
		c.Dir = a.module
		if out, err := c.Output(); err == nil && len(bytes.TrimSpace(out)) > 0 {
			return string(bytes.TrimSpace(out)), nil
		}
	}
	return "", errors.New("where is alptrace's source? Give it with --source")
}

var mainText = template.Must(template.New("main").Parse(`// Command mytrace is alptrace(1) with packages of the user's.
package main

import (
	"` + modulePath + `/command"
{{range .}}
	_ "{{.}}"{{end}}
)

func main() { command.Main() }
`))

// writeBuild writes the workspace: a main package, and a go.work that puts it
// together with the source and the packages. It gives the file for -overlay.
func writeBuild(tmp, source string, adds []addition) (overlay string, err error) {
	mod, err := readMod(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	version := mod.Go
	files := make(map[string]string)
	replace := make(map[string]string)
	uses := []string{"./mytrace", source}
	var paths []string
	for i, a := range adds {
		paths = append(paths, a.path)
		if a.overlaid {
			name := fmt.Sprintf("with%d.mod", i)
			files[name] = fmt.Sprintf("module %s\n\ngo %s\n", a.path, version)
			replace[filepath.Join(a.module, "go.mod")] = filepath.Join(tmp, name)
		}
		uses = append(uses, a.module)
	}
	var text bytes.Buffer
	if err := mainText.Execute(&text, paths); err != nil {
		return "", err
	}
	files["mytrace/main.go"] = text.String()
	files["mytrace/go.mod"] = fmt.Sprintf("module mytrace\n\ngo %s\n", version)
	work := fmt.Sprintf("go %s\n\nuse (\n", version)
	seen := make(map[string]bool)
	for _, u := range uses {
		if !seen[u] {
			work += "\t" + strconv.Quote(u) + "\n"
			seen[u] = true
		}
	}
	files["go.work"] = work + ")\n"
	o, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	files["overlay.json"] = string(o)
	if err := os.Mkdir(filepath.Join(tmp, "mytrace"), 0o755); err != nil {
		return "", err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(tmp, "overlay.json"), nil
}
