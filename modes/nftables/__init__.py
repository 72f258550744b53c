"""How does a ServicePlan become elements of one nftables table, and that table packets on their way?"""
