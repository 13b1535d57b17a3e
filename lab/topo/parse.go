package topo

func parse(name string, text []byte, params map[string]string) (*Lab, error) {
	return &Lab{Name: baseName(name), File: name, Text: text}, nil
}
