"""How does a ServicePlan become a program of the kernel? One package per mode."""
