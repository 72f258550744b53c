"""Are probes, scrapers and load balancers told the truth, in kube-proxy's words?"""
