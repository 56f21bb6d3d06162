"""The pure function from (ModelSpec, Machine, Budget, Workload) to a Plan."""
