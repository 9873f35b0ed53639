def replay(graph, plan): pass
