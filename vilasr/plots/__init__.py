"""Pictures of training runs. Needs matplotlib, which comes with the environment that setup.sh makes."""
