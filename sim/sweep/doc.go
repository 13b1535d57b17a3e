// Package sweep runs a scenario once for every point of a grid of parameters and
// gathers the results in one table.
//
// The table is a function of the scenario alone: it has the same bytes whatever the
// number of workers, the order in which they end, the interruptions, and the number of
// machines. Four decisions make it so:
//
//   - A row's number is its place in the grid, and the row depends on nothing but its
//     parameters: the scenario's text is read once and given to every worker.
//   - Rows run in worker processes of one processor each (GOMAXPROCS=1, which
//     simulations need to repeat bit for bit). A panic, a runtime error or a time limit
//     ends the worker and fails one row, never the sweep.
//   - Results go to a log ([Log]) in the order in which they come: one checked line for
//     each row, on disk before it counts. The log is the checkpoint of an interrupted
//     sweep and the result of a shard, and its header says which scenario, grid and
//     program it belongs to.
//   - The table ([Table]) is made from complete logs only, in the order of the grid.
//
// [Plan] is a scenario and its grid, [Run] executes it, [Merge] puts shards together.
package sweep
