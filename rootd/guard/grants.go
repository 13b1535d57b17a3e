package guard

import (
	"maps"
	"slices"

	"github.com/alptrace/alptrace/rootd/datapath"
)

// Grants are the ports that are guarded, in no order; after Open those that an
// earlier process left.
func (g *Guard) Grants() []datapath.Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.have))
}
