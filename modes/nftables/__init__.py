"""How does a ServicePlan become elements of one nftables table, and what does the table do?"""
