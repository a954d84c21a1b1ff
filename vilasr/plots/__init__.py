"""Pictures of training runs and of a model's stages. Needs matplotlib, which comes with the environment that setup.sh
makes."""
